from .shared_classifier_head import MultiClassifierHead, SharedClassifierHead

__all__ = ['MultiClassifierHead', 'SharedClassifierHead']
