"""Data sets; importing this registers them."""
from .batched_cifar import BatchedCIFAR10, BatchedCIFAR100, collate_batch
from .digits import Digits

__all__ = ['BatchedCIFAR10', 'BatchedCIFAR100', 'Digits', 'collate_batch']
