from .multi_classifier_head import MultiClassifierHead
from .shared_classifier_head import SharedClassifierHead

__all__ = ['MultiClassifierHead', 'SharedClassifierHead']
