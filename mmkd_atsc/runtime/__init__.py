"""What MMEngine lacks for any training; importing this registers it."""
from .accelerate import AccelerateHook
from .atomic_checkpoint import AtomicCheckpointHook
from .exact_resume import ExactResumeHook, ResumableEpochLoop
from .fast_optim import FastOptimWrapper
from .finite_loss import FiniteLossHook
from .flat_data_parallel import FlatDataParallel
from .gather import GatherHook
from .resume import StrictResumeHook
from .runtime_info import DeferredRuntimeInfoHook
from .step_graph import StepGraphHook

__all__ = ['AccelerateHook', 'AtomicCheckpointHook', 'DeferredRuntimeInfoHook', 'ExactResumeHook', 'FastOptimWrapper',
           'FiniteLossHook', 'FlatDataParallel', 'GatherHook', 'ResumableEpochLoop', 'StepGraphHook',
           'StrictResumeHook']
