"""MMEngine's epoch loop, that can go on in the middle of an epoch as if it had not stopped."""
import itertools
from typing import Iterator, List, Optional, Sequence

from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import LOOPS

from .random_state import SeededBatch, random_state, set_random_state


class ResumableBatches(BatchSampler):
    """A data loader's batches, of which those that an epoch has seen are left out without being loaded.

    >>> batches = ResumableBatches(DataLoader(range(6), batch_size=2), data_seed=0)
    >>> batches.start(epoch=0, done=1)
    >>> list(batches), len(batches)
    ([[2, 3], [4, 5]], 3)
    """

    def __init__(self, dataloader: DataLoader, data_seed: int) -> None:
        if dataloader.batch_sampler is None:
            raise ValueError('train_dataloader: batch_size=None must be an integer at least 1')
        self._batches = dataloader.batch_sampler
        self.sampler, self.batch_size = self._batches.sampler, self._batches.batch_size
        self.drop_last = self._batches.drop_last
        # Without workers the process's own random numbers serve, and a checkpoint has them.
        self._seeded = dataloader.num_workers > 0
        self.data_seed = data_seed
        self.start(epoch=0)

    def start(self, epoch: int, done: int = 0, random: Sequence[dict] = ()) -> None:
        """What the next iteration gives: the batches after the first ``done``.

        Args:
            epoch: Which epoch it is, for the random numbers of worker processes.
            done: So many batches are left out.
            random: The process's random numbers, when the epoch began and, if that was before, when it was left.
        """
        self._epoch, self._done, self._random = epoch, done, list(random)

    def __iter__(self) -> Iterator[List[int]]:
        batches, random = enumerate(self._batches), iter(self._random)
        # A loader draws a seed for its workers first, but not if they live on; a sampler may draw the epoch's order.
        for state in itertools.islice(random, 1):
            set_random_state(state)
        for _ in itertools.islice(batches, self._done):
            pass
        for state in random:
            set_random_state(state)
        for number, batch in batches:
            yield SeededBatch(batch, (self.data_seed, get_rank(), self._epoch, number)) if self._seeded else batch

    def __len__(self) -> int:
        return len(self._batches)


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """The train loop of every run by our tools. Unlike MMEngine's, which begins a broken epoch anew, this one

    - goes on with the first batch that the epoch has not seen, without loading the others;
    - draws on the random numbers that the run had (:class:`ExactResumeHook` saves them; without it, they start anew);
    - repeats a validation that the checkpoint did not see: the best score, its checkpoint and a schedule by plateaus
      are as in a run that was never stopped.

    With worker processes each batch is augmented by random numbers of its own (seed, process, epoch, batch), whatever
    the number of workers. MMEngine gives each worker the same numbers in every epoch.

    Args:
        runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals: As in ``EpochBasedTrainLoop``.
    """

    def __init__(self, runner, dataloader, max_epochs: int, val_begin: int = 1, val_interval: int = 1,
                 dynamic_intervals: Optional[list] = None) -> None:
        check_number('max_epochs', max_epochs, 0, integer=True)
        check_number('val_begin', val_begin, 0, integer=True)
        check_number('val_interval', val_interval, 1, integer=True)
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals)
        self.batches = ResumableBatches(self.dataloader, runner.seed)
        # A data loader refuses another batch sampler once it is made, and a new one would lose what hooks know of it.
        self.dataloader.__dict__['batch_sampler'] = self.batches
        self.done = 0  # batches of this epoch
        self.validated = False  # after the last epoch
        self.epoch_start: Optional[dict] = None  # where random numbers stood then
        self._resumed: Optional[dict] = None

    def resume(self, state: dict, validated: bool) -> None:
        """Takes what a checkpoint holds of this process, before the first step.

        Args:
            state: ``done``, ``random`` and ``epoch_start`` as they were.
            validated: Whether the validation after the last epoch is done.
        """
        self.done, self.validated, self._resumed = state['done'], validated, state

    def run(self) -> nn.Module:
        self.runner.call_hook('before_train')
        if self._resumed is not None and not self.done:
            set_random_state(self._resumed['random'])
            self._validate_if_due()  # what a checkpoint from before it cannot know
        while self._epoch < self._max_epochs and not self.stop_training:
            self.run_epoch()
            self._validate_if_due()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_epoch(self) -> None:
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        self.validated = False
        for batch_idx, data_batch in enumerate(self._unseen_batches(), self.done):
            self.done = batch_idx + 1
            self.run_iter(batch_idx, data_batch)
        self.done = 0
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def _unseen_batches(self) -> Iterator:
        state, self._resumed = self._resumed, None
        resumed = state is not None and self.done > 0
        self.epoch_start = state['epoch_start'] if resumed else random_state()
        self.batches.start(self._epoch, self.done, [self.epoch_start, *([state['random']] if resumed else [])])
        return iter(self.dataloader)

    def _validate_if_due(self) -> None:
        self._decide_current_val_interval()
        if (self.runner.val_loop is None or self.validated or self._epoch < self.val_begin
                or (self._epoch % self.val_interval and self._epoch != self._max_epochs)):
            return
        before = random_state()
        self.validated = True  # for the best checkpoint, which is saved within
        self.runner.val_loop.run()
        set_random_state(before)  # training must not depend on whether and how often it was interrupted here
