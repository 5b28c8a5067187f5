"""Hooks, loops, optimizer groups and checkpoint loading; importing this registers them."""
from .adaptive_teacher import AdaptiveTeacherHook
from .distill_val_loop import DistillTestLoop, DistillValLoop
from .distributed_warmup import DistributedWarmupLR
from .optim import DistillOptimWrapperConstructor
from .warmup import DistillWarmupHook

__all__ = ['AdaptiveTeacherHook', 'DistillOptimWrapperConstructor', 'DistillTestLoop', 'DistillValLoop',
           'DistillWarmupHook', 'DistributedWarmupLR']
