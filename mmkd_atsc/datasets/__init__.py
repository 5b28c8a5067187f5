"""Data sets; importing this registers them."""
from .digits import Digits

__all__ = ['Digits']
