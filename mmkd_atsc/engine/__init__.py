"""The methods' own hooks, loops and optimizer groups; importing this registers them."""
from .adaptive_teacher import AdaptiveTeacherHook
from .distill_val_loop import DistillTestLoop, DistillValLoop
from .distributed_warmup import DistributedWarmupLR
from .optim import DistillOptimWrapperConstructor
from .start_check import StartCheckHook
from .teacher_cache import TeacherCacheHook
from .warmup import DistillWarmupHook

__all__ = ['AdaptiveTeacherHook', 'DistillOptimWrapperConstructor', 'DistillTestLoop', 'DistillValLoop',
           'DistillWarmupHook', 'DistributedWarmupLR', 'StartCheckHook', 'TeacherCacheHook']
