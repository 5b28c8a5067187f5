"""MMEngine's RuntimeInfoHook without its wait for the GPU in each step."""
import sys
from collections.abc import Callable
from typing import Any

import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor

from mmkd_atsc.registry import HOOKS

from .step_terms import StepTerms, losses_are_due


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """Writes the losses of training steps to the message hub only when they are needed.

    MMEngine reads each loss and the gradient norm in each step, and the GPU has nothing to do while Python waits. This
    hook leaves them on their device until a line is logged, a checkpoint is saved, a validation begins, the epoch ends,
    or 1000 steps have gathered. Then the hub holds every step's value, in order, as with MMEngine's hook.

    A hook of yours that reads ``train/loss`` from the hub in other steps finds older values; it can read
    ``outputs['loss']`` instead. A model must return new tensors in each step.
    """

    def __init__(self) -> None:
        self._terms = StepTerms()
        self._gradient_norms: list[tuple[str, Tensor]] = []

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        # MMEngine's log begins with the other versions; tools/analysis/runs.py reads both.
        loaded = [name for name in ('mmkd_atsc', 'mmrazor', 'mmpretrain', 'mmcv', 'mmengine') if name in sys.modules]
        packages = ', '.join(f'{name} {sys.modules[name].__version__}' for name in loaded)
        runner.logger.info(f'packages: {packages}; threads: {torch.get_num_threads()}')

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        own = runner.optim_wrapper
        for wrapper in own.values() if isinstance(own, OptimWrapperDict) else [own]:
            if getattr(wrapper, 'clip_grad_kwargs', None):
                wrapper.clip_func = self._keep_norm(wrapper.clip_func, wrapper.grad_name)

    def _keep_norm(self, clip: Callable, name: str) -> Callable:
        """``clip`` that returns nothing: the wrapper logs any norm that it gets, by ``float()``."""

        def clip_and_keep(*args, **kwargs) -> None:
            norm = clip(*args, **kwargs)
            if norm is not None:
                self._gradient_norms.append((name, norm))

        return clip_and_keep

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        terms = [*self._gradient_norms, *(outputs or {}).items()]
        self._gradient_norms = []
        self._terms.add(runner.iter, terms)
        # A line lists the terms in the order in which the hub first got them, so a new one goes there at once.
        known = runner.message_hub.log_scalars
        if losses_are_due(runner, batch_idx) or any(f'train/{name}' not in known for name, _ in terms):
            self.update_hub(runner)

    def update_hub(self, runner: Runner) -> None:
        for _, terms in self._terms.drain():
            for name, value in terms:
                runner.message_hub.update_scalar(f'train/{name}', value)

    def before_val(self, runner: Runner) -> None:
        super().before_val(runner)
        self.update_hub(runner)
