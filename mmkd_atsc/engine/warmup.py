"""Distillation losses that come in over the first epochs or iterations."""
import math
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmkd_atsc.errors.checks import check_choice, check_flag, check_number
from mmkd_atsc.registry import HOOKS
from mmkd_atsc.runtime.model_wrappers import unwrap_model

STAIRS = 10


class ScheduledHook(Hook):
    """Calls ``update(runner, done)`` before each epoch or, with ``by_epoch=False``, before each iteration."""

    priority = 'NORMAL'

    def __init__(self, by_epoch: bool) -> None:
        self.by_epoch = check_flag('by_epoch', by_epoch)

    def update(self, runner: Runner, done: int) -> None:
        raise NotImplementedError

    def before_train(self, runner: Runner) -> None:
        if self.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError(f'{type(self).__name__} counts epochs; a training by iterations has none, so set '
                             'by_epoch=False and give iterations')

    def before_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch:
            self.update(runner, runner.epoch)

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        if not self.by_epoch:
            self.update(runner, runner.iter)


@HOOKS.register_module()
class DistillWarmupHook(ScheduledHook):
    r"""Raises the weight of distillation losses linearly: in epoch :math:`e = 1, 2, \dots` it is

    .. math:: w(e) = w \cdot \min(e / \text{epochs}, 1)

    Any loss of a distiller that has a ``loss_weight`` can be warmed up, MMRazor's own too.

    Args:
        epochs: Length of the warm-up; in iterations if ``by_epoch`` is False. None: a twelfth of the training, as the
            literature's 20 of 240 epochs, but not less than 500 iterations or, of a short training, one half; in ten
            steps, between which a CUDA graph of the training step holds.
        losses: Names of the distiller's losses. None: all of them.
        by_epoch: Count epochs. A training by iterations (``IterBasedTrainLoop``) needs False.

    >>> DistillWarmupHook(epochs=20).factor(done=4)  # the fifth epoch
    0.25
    """

    def __init__(self, epochs: int | None = None, losses: Sequence[str] | None = None, by_epoch: bool = True) -> None:
        super().__init__(by_epoch and epochs is not None)
        self.stairs = STAIRS if epochs is None else None
        self.epochs = check_number('epochs', epochs, 1, integer=True, optional=True)
        self.losses = losses
        self._full: list[tuple[nn.Module, float]] = []  # losses, with their whole weight

    def factor(self, done: int) -> float:
        """The share of the full weight after so many epochs or iterations."""
        share = 1.0 if self.epochs is None else min((done + 1) / self.epochs, 1.0)
        return share if self.stairs is None else math.ceil(share * self.stairs) / self.stairs

    def before_run(self, runner: Runner) -> None:
        model = unwrap_model(runner)
        modules = getattr(getattr(model, 'distiller', None), 'distill_losses', None)
        if modules is None:
            raise ValueError(f'DistillWarmupHook: {type(model).__name__} has no distiller with distill_losses')
        for name in self.losses or modules:
            module = modules[check_choice('losses', name, modules)]
            if not hasattr(module, 'loss_weight'):
                raise ValueError(f'{name} ({type(module).__name__}) has no loss_weight to warm up')
            self._full.append((module, module.loss_weight))

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        if self.epochs is None:
            self.epochs = max(math.ceil(runner.max_iters / 12), min(500, runner.max_iters // 2), 1)

    def update(self, runner: Runner, done: int) -> None:
        self._scale(self.factor(done))

    def after_train(self, runner: Runner) -> None:
        self._scale(1.0)

    def _scale(self, factor: float) -> None:
        for module, weight in self._full:
            module.loss_weight = weight * factor
