"""What makes a network's input of a batch."""
from .batched_data_preprocessor import BatchedDataPreprocessor

__all__ = ['BatchedDataPreprocessor']
