"""What MMEngine's checkpoints lack for a resumed run to equal one that was never stopped."""
from typing import Any, Dict, List, Optional

from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.runner import Runner
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from mmkd_atsc.registry import HOOKS

from .epoch_loop import ResumableEpochLoop
from .random_state import random_state, set_random_state
from .step_terms import is_saved
from .unwrap import optim_wrappers, unwrap

ENTRY = 'exact_resume'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Saves and restores what a run needs to go on as if it had not been stopped, bit for bit on the CPU.

    MMEngine saves the model, optimizers, schedules and log. This adds, of every process: the random numbers of Python,
    NumPy, PyTorch and the GPU, now and when the epoch began; how far the epoch is; batch norm's statistics, which
    differ between processes; the gradients of an accumulated step that is not taken yet, and whether it will be left
    out for a loss that was nan; and the sampler's seed. :class:`ResumableEpochLoop` goes on from there.

    What is not exact is said in one line on resuming: another number of processes, a train loop that counts
    iterations, ``EarlyStoppingHook``, which keeps its count to itself. From three processes on, sums of gradients are
    rounded in another order in the first step.
    """

    # After the schedules and all that looks at a step, before the checkpoint.
    priority = 85

    def __init__(self) -> None:
        self._processes: List[dict] = []
        self._iteration: Optional[int] = None  # that self._processes is from
        self._loaded: Optional[dict] = None

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        if is_saved(runner):
            self._gather(runner, runner.iter + 1)

    def after_train_epoch(self, runner: Runner) -> None:
        self._gather(runner, runner.iter)

    def _gather(self, runner: Runner, iteration: int) -> None:
        self._iteration, self._processes = iteration, all_gather_object(process_state(runner))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        iteration = checkpoint['meta']['iter']
        if iteration != self._iteration:  # saved by other means than a CheckpointHook
            if get_world_size() > 1:
                return  # only this process saves, the others cannot be asked
            self._gather(runner, iteration)
        loop = runner.train_loop
        checkpoint[ENTRY] = dict(
            processes=self._processes, batches=len(loop.dataloader), validated=getattr(loop, 'validated', False),
            sampler_seed=getattr(loop.dataloader.sampler, 'seed', None))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        self._loaded = checkpoint.get(ENTRY, {}) if runner._resume else None

    def before_train(self, runner: Runner) -> None:
        loaded, self._loaded = self._loaded, None
        if loaded is None:
            return
        loop = runner.train_loop
        batches = len(loop.dataloader)
        check_position(loaded, batches, get_world_size())
        problem = why_inexact(loaded, runner)
        if problem:
            runner.logger.warning(f'resumed, but not exactly: {problem}')
        if isinstance(loop, ResumableEpochLoop):
            if not loaded:
                loop.done = min(max(loop.iter - loop.epoch * batches, 0), batches)
            elif loaded['processes'][0]['done'] == loaded['batches']:
                loop.done = batches  # all, of an epoch that may have had others
        if len(loaded.get('processes', ())) != get_world_size():
            return
        self._iteration, self._processes = loop.iter, loaded['processes']  # a validation may save before the first step
        state = self._processes[get_rank()]
        if loaded['sampler_seed'] is not None:
            loop.dataloader.sampler.seed = loaded['sampler_seed']
        load_process_state(runner, state)
        if isinstance(loop, ResumableEpochLoop):
            loop.batches.data_seed = state['data_seed']
            loop.resume(dict(state, done=loop.done or state['done']), loaded['validated'])
        else:
            set_random_state(state['random'])


def process_state(runner: Runner) -> Dict[str, Any]:
    """What this process must find again."""
    loop, model = runner.train_loop, unwrap(runner)
    gradients = {name: parameter.grad.detach().cpu().clone() for name, parameter in model.named_parameters()
                 if parameter.grad is not None}
    return dict(random=random_state(), done=getattr(loop, 'done', 0), epoch_start=getattr(loop, 'epoch_start', None),
                data_seed=runner.seed, gradients=gradients,
                spoiled=[getattr(wrapper, 'spoiled', False) for wrapper in optim_wrappers(runner)],
                # The first process's are in the state dict.
                norms={name: value.cpu().clone() for name, value in norm_buffers(runner).items()} if get_rank() else {})


def load_process_state(runner: Runner, state: Dict[str, Any]) -> None:
    """Puts gradients, what is known of their step, and statistics where :func:`process_state` found them."""
    for name, parameter in unwrap(runner).named_parameters():
        if name in state['gradients']:
            parameter.grad = state['gradients'][name].to(parameter)
    for wrapper, spoiled in zip(optim_wrappers(runner), state.get('spoiled', ())):  # older checkpoints lack it
        if hasattr(wrapper, 'spoiled'):  # else no step of this run is left out, and nothing would reset it
            wrapper.spoiled = spoiled
    for name, value in norm_buffers(runner).items():
        if name in state['norms']:
            value.copy_(state['norms'][name])


def norm_buffers(runner: Runner) -> Dict[str, Tensor]:
    return {f'{path}.{name}': value for path, module in unwrap(runner).named_modules() if isinstance(module, _NormBase)
            for name, value in module.named_buffers(recurse=False)}


def check_position(loaded: dict, batches: int, processes: int) -> None:
    """Refuses to go on in the middle of an epoch that has other batches now.

    >>> check_position(dict(batches=20, processes=[dict(done=5)]), batches=10, processes=2)
    Traceback (most recent call last):
    ValueError: the checkpoint is from an epoch's middle (5 of 20 batches, 1 process(es)); now it has 10 batches, 2 ...
    """
    before = loaded.get('processes') or [dict(done=0)]
    if 0 < before[0]['done'] < loaded['batches'] and (loaded['batches'], len(before)) != (batches, processes):
        raise ValueError(f"the checkpoint is from an epoch's middle ({before[0]['done']} of {loaded['batches']} "
                         f'batches, {len(before)} process(es)); now it has {batches} batches, {processes} process(es): '
                         'resume with the same data, batch size and processes, or from the end of an epoch')


def why_inexact(loaded: dict, runner: Runner) -> Optional[str]:
    """Why the run cannot go on exactly as it would have, None if it can."""
    if not loaded:
        return 'the checkpoint has no random numbers, it was written without ExactResumeHook'
    before = len(loaded['processes'])
    if before != get_world_size():
        return f'{before} process(es) wrote the checkpoint, {get_world_size()} read it'
    if not isinstance(runner.train_loop, ResumableEpochLoop):
        return (f'{type(runner.train_loop).__name__} cannot go on in the middle of its data, '
                'train_cfg=dict(by_epoch=True) can')
    if any(isinstance(hook, EarlyStoppingHook) for hook in runner.hooks):
        return 'EarlyStoppingHook counts anew'
    return None
