"""Distillation losses that come in over the first epochs or iterations."""
import math
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmkd_atsc.errors.checks import check_choice, check_flag, check_number
from mmkd_atsc.registry import HOOKS
from mmkd_atsc.runtime.model_wrappers import unwrap_model


@HOOKS.register_module()
class DistillWarmupHook(Hook):
    r"""Raises the weight of distillation losses linearly: in epoch :math:`e = 1, 2, \dots` it is

    .. math:: w(e) = w \cdot \min(e / \text{epochs}, 1)

    It depends on the epoch alone, so a resumed run goes on where it was. Any loss of a distiller that has a
    ``loss_weight`` can be warmed up, MMRazor's own too.

    Args:
        epochs: Length of the warm-up; in iterations if ``by_epoch`` is False. None: a twelfth of the training, rounded
            up, as the literature's 20 of 240 epochs.
        losses: Names of the distiller's losses. None: all of them.
        by_epoch: Count epochs. A training by iterations (``IterBasedTrainLoop``) needs False.

    >>> DistillWarmupHook(epochs=20).factor(done=4)  # the fifth epoch
    0.25
    """

    priority = 'NORMAL'

    def __init__(self, epochs: int | None = None, losses: Sequence[str] | None = None, by_epoch: bool = True) -> None:
        self.epochs = epochs if epochs is None else check_number('epochs', epochs, 1, integer=True)
        if losses is not None and not isinstance(losses, (list, tuple)):
            raise TypeError(f'losses={losses!r} must be a list of names')
        self.losses = losses
        self.by_epoch = check_flag('by_epoch', by_epoch)
        self._full: dict[str, float] = {}

    def factor(self, done: int) -> float:
        """The share of the full weight after so many epochs or iterations."""
        return 1.0 if self.epochs is None else min((done + 1) / self.epochs, 1.0)

    def before_run(self, runner: Runner) -> None:
        modules = self._modules(runner)
        for name in self.losses or modules:
            check_choice('losses', name, modules)
            if not hasattr(modules[name], 'loss_weight'):
                raise ValueError(f'{name} ({type(modules[name]).__name__}) has no loss_weight to warm up')
        # The weight in the config is the full one: a module built from it carries it until the first epoch.
        self._full = {name: modules[name].loss_weight for name in self.losses or modules}

    def before_train(self, runner: Runner) -> None:
        check_has_epochs(self, runner)
        if self.epochs is None:
            self.epochs = math.ceil((runner.max_epochs if self.by_epoch else runner.max_iters) / 12)

    def before_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch:
            self._set_weights(runner, self.factor(runner.epoch))

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        if not self.by_epoch and runner.iter <= self.epochs:
            self._set_weights(runner, self.factor(runner.iter))

    def after_train(self, runner: Runner) -> None:
        self._set_weights(runner, 1.0)

    def _set_weights(self, runner: Runner, factor: float) -> None:
        modules = self._modules(runner)
        for name, weight in self._full.items():
            modules[name].loss_weight = weight * factor

    @staticmethod
    def _modules(runner: Runner) -> dict[str, nn.Module]:
        model = unwrap_model(runner)
        if not hasattr(getattr(model, 'distiller', None), 'distill_losses'):
            raise ValueError(f'DistillWarmupHook: {type(model).__name__} has no distiller with distill_losses')
        return dict(model.distiller.distill_losses.items())


def check_has_epochs(hook: Hook, runner: Runner) -> None:
    """Refuses a hook that counts epochs where training counts iterations."""
    if hook.by_epoch and isinstance(runner.train_loop, IterBasedTrainLoop):
        raise ValueError(f'{type(hook).__name__} counts epochs; a training by iterations has none, so set '
                         'by_epoch=False and give iterations')
