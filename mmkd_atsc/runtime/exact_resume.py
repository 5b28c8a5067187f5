"""Saves what MMEngine's checkpoints lack for a resumed run to equal one that was never stopped."""
from typing import Any

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from mmkd_atsc.registry import HOOKS

from .epoch_loop import ResumableEpochLoop
from .model_wrappers import unwrap_model
from .random_state import random_state

ENTRY = 'exact_resume'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a run that is resumed from the end of an epoch equal to one never stopped, bit for bit on the CPU.

    It adds to MMEngine's checkpoints the state of every process: random numbers, batch norm statistics, gradients of an
    accumulated step, the sampler's seed. :class:`ResumableEpochLoop` continues from there.

    Where a resumed run is not exact, one line says why: a checkpoint from the middle of an epoch (which begins anew, as
    in MMEngine), another number of processes, another train loop, or ``EarlyStoppingHook``, whose count is not saved.
    From three processes on, gradients are summed in another order in the first step.
    """

    # After the schedules, before the checkpoint.
    priority = 85

    def __init__(self) -> None:
        self._processes: list[dict] = []
        self._iteration: int | None = None  # that self._processes is from
        self._loaded: dict | None = None

    def after_train_epoch(self, runner: Runner) -> None:
        self._iteration, self._processes = runner.iter, all_gather_object(process_state(runner))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if checkpoint['meta']['iter'] == self._iteration:
            checkpoint[ENTRY] = dict(processes=self._processes,
                                     sampler_seed=getattr(runner.train_loop.dataloader.sampler, 'seed', None))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if runner._resume:
            self._loaded = checkpoint.get(ENTRY, dict(processes=[]))
            if any(state.get('done') for state in self._loaded['processes']):  # an older version's, within an epoch
                self._loaded = dict(processes=[])

    def before_train(self, runner: Runner) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return
        loop, problem = runner.train_loop, why_inexact(loaded['processes'], runner)
        if problem:
            runner.logger.warning(f'resumed, but not exactly: {problem}')
        if not isinstance(loop, ResumableEpochLoop):
            return
        if loop.iter != loop.epoch * len(loop.dataloader):
            # Else more steps than max_iters would follow, which MMEngine's gradient accumulation does not survive.
            loop._iter = loop.epoch * len(loop.dataloader)
            runner.optim_wrapper.initialize_count_status(runner.model, loop.iter, loop.max_iters)
        if len(loaded['processes']) == get_world_size():
            if loaded['sampler_seed'] is not None:
                loop.dataloader.sampler.seed = loaded['sampler_seed']
            load_process_state(runner, loaded['processes'][get_rank()])


def process_state(runner: Runner) -> dict[str, Any]:
    """What this process needs to continue."""
    gradients = {name: parameter.grad.detach().cpu().clone()
                 for name, parameter in unwrap_model(runner).named_parameters() if parameter.grad is not None}
    # The first process's statistics are in the state dict.
    norms = {name: value.cpu().clone() for name, value in norm_buffers(runner).items()} if get_rank() else {}
    return dict(random=random_state(), gradients=gradients, norms=norms)


def load_process_state(runner: Runner, state: dict[str, Any]) -> None:
    for name, parameter in unwrap_model(runner).named_parameters():
        if name in state['gradients']:
            parameter.grad = state['gradients'][name].to(parameter)
    for name, value in norm_buffers(runner).items():
        if name in state['norms']:
            value.copy_(state['norms'][name])
    runner.train_loop.resumed_random_state = state['random']


def norm_buffers(runner: Runner) -> dict[str, Tensor]:
    return {f'{path}.{name}': value for path, module in unwrap_model(runner).named_modules()
            if isinstance(module, _NormBase) for name, value in module.named_buffers(recurse=False)}


def why_inexact(processes: list[dict], runner: Runner) -> str | None:
    """Why the run cannot continue exactly from the states of these processes, None if it can."""
    if not isinstance(runner.train_loop, ResumableEpochLoop):
        return f'{type(runner.train_loop).__name__} does not restore random numbers, mmkd_atsc.ResumableEpochLoop does'
    if not processes:
        return (f'epoch {runner.epoch + 1} begins anew, for the checkpoint is from the middle of an epoch or was saved '
                'without ExactResumeHook')
    if len(processes) != get_world_size():
        return f'{len(processes)} process(es) wrote the checkpoint, {get_world_size()} read it'
    if any(isinstance(hook, EarlyStoppingHook) for hook in runner.hooks):
        return 'EarlyStoppingHook begins to count anew'
    return None
