"""Hooks, loops, optimizer groups and checkpoint loading; importing this registers them."""
from .accelerate import AccelerateHook
from .adaptive_teacher import AdaptiveTeacherHook
from .atomic_checkpoint import AtomicCheckpointHook
from .cpu_sync_bn import CPUSyncedDataParallel
from .distill_val_loop import DistillTestLoop, DistillValLoop
from .distributed_warmup import DistributedWarmupLR
from .epoch_loop import ResumableEpochLoop
from .exact_resume import ExactResumeHook
from .export_hook import ExportStudentHook
from .finite_loss import FiniteLossHook
from .optim import DistillOptimWrapperConstructor
from .progress import ProgressHook
from .runtime_info import DeferredRuntimeInfoHook
from .start_check import StartCheckHook
from .warmup import DistillWarmupHook

__all__ = ['AccelerateHook', 'AdaptiveTeacherHook', 'AtomicCheckpointHook', 'CPUSyncedDataParallel',
           'DeferredRuntimeInfoHook', 'DistillOptimWrapperConstructor', 'DistillTestLoop', 'DistillValLoop',
           'DistillWarmupHook', 'DistributedWarmupLR', 'ExactResumeHook', 'ExportStudentHook', 'FiniteLossHook',
           'ProgressHook', 'ResumableEpochLoop', 'StartCheckHook']
