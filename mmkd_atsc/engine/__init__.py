"""Hooks, loops, optimizer groups and checkpoint loading; importing this registers them."""
from .optim import DistillOptimWrapperConstructor
from .warmup import DistillWarmupHook

__all__ = ['DistillOptimWrapperConstructor', 'DistillWarmupHook']
