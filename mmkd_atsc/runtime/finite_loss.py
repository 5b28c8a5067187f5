"""Stops a training whose losses or weights are nan or inf, before they are saved."""
import math
from typing import Any

import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmkd_atsc.errors.checks import TrainingStopped
from mmkd_atsc.registry import HOOKS

from .model_wrappers import unwrap_model
from .step_terms import StepTerms, checkpoint_is_due, losses_are_due

# Iteration, process, what is wrong: the smallest is the first.
Finding = tuple[int, int, str]


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops the run when a loss is nan or inf, naming the loss, the iteration and the last checkpoint before it.

    No step waits for the GPU: the losses of all steps are checked when a line is logged, at an epoch's end, and before
    a validation or a checkpoint; in the last three cases also the trained weights (a gradient can be nan where the loss
    is not) and the buffers. When one process finds something, all stop. Steps that AMP's scaler skips are no errors.
    """

    # After the logger, whose line shows the loss, and before the checkpoint.
    priority = 'LOW'

    def __init__(self) -> None:
        self._losses = StepTerms()
        self._unchecked_step: int | None = None  # the last step whose weights are not checked

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        self._unchecked_step = runner.iter + 1
        self._losses.add(runner.iter + 1, [item for item in (outputs or {}).items() if 'loss' in item[0]])
        if losses_are_due(runner, batch_idx):
            self._check(runner, weights=checkpoint_is_due(runner))

    def after_train_epoch(self, runner: Runner) -> None:
        self._check(runner)

    def before_val(self, runner: Runner) -> None:  # which may save the best checkpoint
        self._check(runner)

    def _check(self, runner: Runner, weights: bool = True) -> None:
        problem = first_of_all(self._nonfinite_loss()) if self._losses else None
        if weights and not problem and self._unchecked_step is not None:
            step, self._unchecked_step = self._unchecked_step, None
            name = nonfinite_tensor(unwrap_model(runner))
            text = f'the {name} holds nan or inf after iteration {step}, though no loss did'
            problem = first_of_all((step, get_rank(), text) if name else None)
        if problem:
            path = runner.message_hub.get_info('last_ckpt') or (runner._load_from if runner._resume else None)
            last = f'the last checkpoint before it is {path}' if path else 'no checkpoint had been saved'
            raise TrainingStopped(f'{problem}; {last}')

    def _nonfinite_loss(self) -> Finding | None:
        for iteration, terms in self._losses.drain():
            broken = {name: value for name, value in terms if not math.isfinite(value)}
            if len(broken) > 1:
                broken.pop('loss', None)  # the total, which any of the others makes so
            if broken:
                values = ', '.join(f'{name} is {value}' for name, value in broken.items())
                return iteration, get_rank(), f'{values} in iteration {iteration}'
        return None


def first_of_all(own: Finding | None) -> str | None:
    """The first finding of all processes, in words; None where no process has one."""
    _, rank, what = min(filter(None, all_gather_object(own)), default=(0, 0, None))
    return f'{what} (process {rank})' if what and get_world_size() > 1 else what


@torch.no_grad()
def nonfinite_tensor(model: nn.Module) -> str | None:
    """The first trained parameter or saved buffer that holds nan or inf; this waits for the device once."""
    saved = model.state_dict()  # other buffers may hold inf: masks, for instance
    tensors = {f'weight {name}': value for name, value in model.named_parameters() if value.requires_grad}
    tensors |= {f'buffer {name}': value for name, value in model.named_buffers()
                if name in saved and value.is_floating_point() and value.numel()}  # an empty one has no maximum
    if not tensors:
        return None
    # The largest absolute value, nan if there is one, is never rounded to inf, and costs few kernels for all tensors.
    largest = torch._foreach_norm(list(tensors.values()), math.inf)
    finite = torch.stack([value.to(largest[0].device) for value in largest]).isfinite()
    return next((name for name, good in zip(tensors, finite.tolist()) if not good), None)
