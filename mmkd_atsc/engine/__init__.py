"""Hooks, loops, optimizer groups and checkpoint loading; importing this registers them."""
from .optim import DistillOptimWrapperConstructor

__all__ = ['DistillOptimWrapperConstructor']
