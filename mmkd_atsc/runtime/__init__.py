"""What MMEngine lacks for any training; importing this registers it."""
from .accelerate import AccelerateHook
from .atomic_checkpoint import AtomicCheckpointHook
from .cpu_sync_bn import CPUSyncedDataParallel
from .epoch_loop import ResumableEpochLoop
from .exact_resume import ExactResumeHook
from .fast_optim import FastOptimWrapper
from .finite_loss import FiniteLossHook
from .flat_data_parallel import FlatDataParallel
from .gather import GatherHook
from .progress import ProgressHook
from .resume import StrictResumeHook
from .runtime_info import DeferredRuntimeInfoHook
from .step_graph import StepGraphHook

__all__ = ['AccelerateHook', 'AtomicCheckpointHook', 'CPUSyncedDataParallel', 'DeferredRuntimeInfoHook',
           'ExactResumeHook', 'FastOptimWrapper', 'FiniteLossHook', 'FlatDataParallel', 'GatherHook', 'ProgressHook',
           'ResumableEpochLoop', 'StepGraphHook', 'StrictResumeHook']
