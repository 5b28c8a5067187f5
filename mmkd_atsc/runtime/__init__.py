"""What MMEngine lacks for any training; importing this registers it."""
from .accelerate import AccelerateHook
from .atomic_checkpoint import AtomicCheckpointHook
from .cpu_sync_bn import CPUSyncedDataParallel
from .epoch_loop import ResumableEpochLoop
from .exact_resume import ExactResumeHook
from .finite_loss import FiniteLossHook
from .progress import ProgressHook
from .resume import StrictResumeHook
from .runtime_info import DeferredRuntimeInfoHook

__all__ = ['AccelerateHook', 'AtomicCheckpointHook', 'CPUSyncedDataParallel', 'DeferredRuntimeInfoHook',
           'ExactResumeHook', 'FiniteLossHook', 'ProgressHook', 'ResumableEpochLoop', 'StrictResumeHook']
