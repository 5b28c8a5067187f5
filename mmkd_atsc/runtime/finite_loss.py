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
from .step_terms import StepTerms, losses_are_due

# Iteration, whether no loss shows it, process, the problem: the smallest is the first.
Finding = tuple[int, bool, int, str]


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops the run when a loss is nan or inf, naming the loss, the iteration and the last checkpoint before it.

    No step waits for the GPU: the losses of all steps are checked when a line is logged, at an epoch's end, and before
    a validation or a checkpoint, and with them the trained weights (a gradient can be nan where the loss is not) and
    the buffers. When one process finds something, all stop. Steps that AMP's scaler skips are no errors. The message
    ends with what the model's modules say in ``nonfinite_remedy``.
    """

    # After the logger, whose line shows the loss, and before the checkpoint.
    priority = 'LOW'

    def __init__(self) -> None:
        self._losses = StepTerms()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        self._losses.add(runner.iter + 1, [item for item in (outputs or {}).items() if 'loss' in item[0]])
        if losses_are_due(runner, batch_idx):
            self._check(runner)

    def before_val(self, runner: Runner) -> None:  # which may save the best checkpoint
        if self._losses:
            self._check(runner)

    def _check(self, runner: Runner) -> None:
        steps, finding = self._losses.drain(), None
        for iteration, terms in reversed(steps):
            broken = {name: value for name, value in terms if not math.isfinite(value)}
            if len(broken) > 1:
                broken.pop('loss', None)  # the total, which any of the others makes so
            if broken:
                values = ', '.join(f'{name} is {value}' for name, value in broken.items())
                finding = iteration, False, get_rank(), f'{values} in iteration {iteration}'
        if finding is None:
            last, name = steps[-1][0], nonfinite_tensor(unwrap_model(runner))
            text = f'the {name} holds nan or inf after iteration {last}, though no loss did'
            finding = (last, True, get_rank(), text) if name else None
        found: list[Finding] = [one for one in all_gather_object(finding) if one]
        if found:
            *_, rank, problem = min(found)
            problem += f' (process {rank})' if get_world_size() > 1 else ''
            path = runner.message_hub.get_info('last_ckpt') or (runner._load_from if runner._resume else None)
            saved = f'the last checkpoint before it is {path}' if path else 'no checkpoint had been saved'
            raise TrainingStopped('; '.join([problem, saved, *remedies(unwrap_model(runner))]))


def remedies(model: nn.Module) -> list[str]:
    """What the modules of a model say one should change when a loss is nan or inf, each once."""
    return list(dict.fromkeys(module.nonfinite_remedy for module in model.modules()
                              if hasattr(module, 'nonfinite_remedy')))


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
