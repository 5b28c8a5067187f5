"""An epoch loop that resumes exactly from the end of an epoch."""
from collections.abc import Iterator

from mmengine.dist import get_rank
from mmengine.runner import EpochBasedTrainLoop
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import LOOPS

from .random_state import SeededBatch, random_state, set_random_state


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

    Args:
        runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals: As in ``EpochBasedTrainLoop``.
    """

    def __init__(self, runner, dataloader, max_epochs: int, val_begin: int = 1, val_interval: int = 1,
                 dynamic_intervals: list | None = None) -> None:
        for name, value, low in (('max_epochs', max_epochs, 0), ('val_begin', val_begin, 0),
                                 ('val_interval', val_interval, 1)):
            check_number(name, value, low, integer=True)
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
