"""Resumes a run so that it equals one that was never stopped: random numbers, an epoch loop, a hook that saves more."""
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.data import BatchSampler, DataLoader

from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import HOOKS, LOOPS

from .model_wrappers import unwrap_model

ENTRY = 'exact_resume'  # of a checkpoint


def random_state() -> dict:
    """The state of the random numbers of Python, NumPy and PyTorch, in values that a checkpoint may hold."""
    numpy: Any = np.random.get_state()  # NumPy declares a dict as well
    kind, keys, *rest = numpy
    state = dict(python=random.getstate(), torch=torch.get_rng_state(),
                 numpy=(kind, torch.from_numpy(keys.astype(np.int64)), *rest))
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict) -> None:
    """Restores what :func:`random_state` returned."""
    kind, keys, *rest = state['numpy']
    version, inner, gauss = state['python']
    random.setstate((version, tuple(inner), gauss))
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


class SeededBatch(list):
    """The indices of a batch. A worker process that iterates over them to fetch the images seeds itself first."""

    def __init__(self, indices: Sequence[int], entropy: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.entropy = entropy

    def __iter__(self) -> Iterator[int]:
        python, numpy, first, second = np.random.SeedSequence(list(self.entropy)).generate_state(4).tolist()
        random.seed(python)
        np.random.seed(numpy)
        torch.manual_seed(first << 31 | second >> 1)
        return super().__iter__()

    def __reduce__(self) -> tuple:  # the default iterates over it in the process that sends it
        return SeededBatch, (self[:], self.entropy)


class SeededBatches(BatchSampler):
    """The batches of a data loader; with worker processes, each batch has a seed of its own."""

    def __init__(self, loader: DataLoader) -> None:
        if loader.batch_sampler is None:
            raise ValueError('train_dataloader: batch_size=None must be an integer at least 1')
        self._batches, self._has_workers = loader.batch_sampler, loader.num_workers > 0
        super().__init__(self._batches.sampler, self._batches.batch_size, self._batches.drop_last)
        self._seed: tuple[int, ...] = (0, )
        self._random_state: dict | None = None

    def start_epoch(self, *seed: int) -> None:
        self._seed, self._random_state = seed, random_state()

    def __iter__(self) -> Iterator[list[int]]:
        if self._random_state is not None:
            # The loader has just drawn a random number: in each epoch, or once where its workers are persistent.
            set_random_state(self._random_state)
            self._random_state = None
        for number, batch in enumerate(self._batches):
            yield SeededBatch(batch, (*self._seed, number)) if self._has_workers else batch

    def __len__(self) -> int:
        return len(self._batches)


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """The epoch loop that :class:`ExactResumeHook` resumes exactly. Unlike MMEngine's,

    - a resumed run repeats the validation that comes after its checkpoint, so that no score is lost;
    - validation leaves the random numbers of the training as they are;
    - with worker processes, each batch has random numbers that depend on seed, process, epoch and batch, and not on
      the number of workers. MMEngine gives a worker the same numbers in each epoch.
    """

    def __init__(self, runner, dataloader, max_epochs: int, val_begin: int = 1, val_interval: int = 1,
                 dynamic_intervals: list | None = None) -> None:
        check_number('max_epochs', max_epochs, 0, integer=True)
        check_number('val_interval', val_interval, 1, integer=True)
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals)
        self._batches = SeededBatches(self.dataloader)
        self.dataloader.__dict__['batch_sampler'] = self._batches  # a DataLoader refuses to have it set
        self.resumed_random_state: dict | None = None  # of this process at the epoch's end that it continues from

    def run(self) -> nn.Module:
        self.runner.call_hook('before_train')
        if self.resumed_random_state is not None:
            set_random_state(self.resumed_random_state)
            self._validate_if_due()
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        self._batches.start_epoch(self.runner.seed, get_rank(), self._epoch)
        super().run_epoch()

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        if (self.runner.val_loop is None or self._epoch < self.val_begin
                or (self._epoch % self.val_interval and self._epoch != self._max_epochs)):
            return
        before = random_state()
        self.runner.val_loop.run()
        set_random_state(before)


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
