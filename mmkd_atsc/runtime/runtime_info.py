"""MMEngine's RuntimeInfoHook, that does not make the GPU wait in each step."""
import sys
from typing import Any, Callable, List, Optional, Tuple

import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.runner import Runner
from mmengine.utils import apply_to
from torch import Tensor

from mmkd_atsc.registry import HOOKS

from .step_terms import StepTerms, is_read
from .unwrap import optim_wrappers


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """Hands a step's losses to the message hub only when somebody reads them.

    MMEngine's hook calls ``.item()`` on each of them, and its optimizer wrapper ``float()`` on the gradient norm, in
    each step: the GPU runs dry while Python waits for it. Here they stay on their device until a line is logged, a
    checkpoint is saved, a validation begins, the epoch ends, or 1000 steps have gathered. The hub then holds what it
    would have held: every step's value, in order.

    A hook of yours that reads ``train/loss`` from the hub in other steps finds the values up to the last such moment;
    it takes ``outputs['loss']`` instead, or this hook is left away::

        default_hooks = dict(runtime_info=dict(type='mmkd_atsc.DeferredRuntimeInfoHook'))
    """

    def __init__(self) -> None:
        self._terms = StepTerms()
        self._gradient_norms: List[Tuple[str, Tensor]] = []

    def before_run(self, runner: Runner) -> None:
        super().before_run(runner)
        # MMEngine's log begins with the other versions; see analysis/runs.py, which reads both.
        runner.logger.info(f'packages: {packages_in_use()}; threads: {torch.get_num_threads()}')

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        for wrapper in optim_wrappers(runner):
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
                         outputs: Optional[dict] = None) -> None:
        terms = [*self._gradient_norms, *(outputs or {}).items()]
        self._gradient_norms = []
        self._terms.add(runner.iter, terms)
        # A line names the terms in the order in which the hub met them: a new one is not kept back.
        known = runner.message_hub.log_scalars
        if is_read(runner, batch_idx) or any(f'train/{name}' not in known for name, _ in terms):
            self.hand_over(runner)

    def hand_over(self, runner: Runner) -> None:
        """Brings the message hub up to date."""
        for _, terms in self._terms.drain():
            for name, value in terms:
                runner.message_hub.update_scalar(f'train/{name}', value)

    def after_train_epoch(self, runner: Runner) -> None:
        self.hand_over(runner)

    def before_val(self, runner: Runner) -> None:
        super().before_val(runner)
        self.hand_over(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if self._terms:  # saved by other means than a CheckpointHook: the hub has been copied already
            self.hand_over(runner)
            checkpoint['message_hub'] = apply_to(runner.message_hub.state_dict(), lambda value: hasattr(value, 'cpu'),
                                                 lambda value: value.cpu())


def packages_in_use() -> str:
    """This package and those of OpenMMLab that are loaded, with their versions.

    >>> 'mmengine 0.10' in packages_in_use()
    True
    """
    loaded = [name for name in ('mmkd_atsc', 'mmrazor', 'mmpretrain', 'mmcv', 'mmengine') if name in sys.modules]
    return ', '.join(f'{name} {sys.modules[name].__version__}' for name in loaded)
