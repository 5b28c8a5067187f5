"""Distillation losses that come in over the first epochs."""
from typing import Dict, Optional, Sequence

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from mmkd_atsc.errors.checks import check_choice, check_number
from mmkd_atsc.registry import HOOKS
from mmkd_atsc.runtime.model_wrappers import unwrap_model


@HOOKS.register_module()
class DistillWarmupHook(Hook):
    r"""Raises the weight of distillation losses linearly: in epoch :math:`e = 1, 2, \dots` it is

    .. math:: w(e) = w \cdot \min(e / \text{epochs}, 1)

    It depends on the epoch alone, so a resumed run goes on where it was. Any loss of a distiller that has a
    ``loss_weight`` can be warmed up, MMRazor's own too.

    Args:
        epochs: Length of the warm-up.
        losses: Names of the distiller's losses. None: all of them.

    >>> DistillWarmupHook(epochs=20).factor(epoch=4)  # the fifth epoch
    0.25
    """

    priority = 'NORMAL'

    def __init__(self, epochs: int = 20, losses: Optional[Sequence[str]] = None) -> None:
        self.epochs = check_number('epochs', epochs, 1, integer=True)
        if losses is not None and not isinstance(losses, (list, tuple)):
            raise TypeError(f'losses={losses!r} must be a list of names')
        self.losses = losses
        self._full: Dict[str, float] = {}

    def factor(self, epoch: int) -> float:
        """The share of the full weight in an epoch, counted from 0."""
        return min((epoch + 1) / self.epochs, 1.0)

    def before_run(self, runner: Runner) -> None:
        modules = self._modules(runner)
        for name in self.losses or modules:
            check_choice('losses', name, modules)
            if not hasattr(modules[name], 'loss_weight'):
                raise ValueError(f'{name} ({type(modules[name]).__name__}) has no loss_weight to warm up')
        # The weight in the config is the full one: a module built from it carries it until the first epoch.
        self._full = {name: modules[name].loss_weight for name in self.losses or modules}

    def before_train(self, runner: Runner) -> None:
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError('DistillWarmupHook counts epochs; with train_cfg=dict(by_epoch=False) there are none')

    def before_train_epoch(self, runner: Runner) -> None:
        modules = self._modules(runner)
        for name, weight in self._full.items():
            modules[name].loss_weight = weight * self.factor(runner.epoch)

    def after_train(self, runner: Runner) -> None:
        modules = self._modules(runner)
        for name, weight in self._full.items():
            modules[name].loss_weight = weight

    @staticmethod
    def _modules(runner: Runner) -> Dict[str, nn.Module]:
        model = unwrap_model(runner)
        if not hasattr(getattr(model, 'distiller', None), 'distill_losses'):
            raise ValueError(f'DistillWarmupHook: {type(model).__name__} has no distiller with distill_losses')
        return dict(model.distiller.distill_losses.items())
