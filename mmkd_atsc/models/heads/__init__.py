from .shared_classifier_head import SharedClassifierHead

__all__ = ['SharedClassifierHead']
