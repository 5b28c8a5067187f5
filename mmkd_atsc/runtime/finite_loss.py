"""A training whose loss is nan or inf ends, before it saves anything."""
import math
from typing import Any, Optional, Tuple

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmkd_atsc.errors.checks import TrainingStopped, check_number
from mmkd_atsc.registry import HOOKS

from .skip_steps import BufferBackup, skip_nonfinite_steps
from .step_terms import StepTerms, is_read, is_saved
from .unwrap import optim_wrappers, unwrap

# Iteration, process, what is wrong: the smallest is the first.
Finding = Tuple[int, int, str]


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops the run at losses that are nan or inf, naming the loss, the iteration and the last checkpoint before it.

    It looks when a line is logged, when an epoch ends and before a validation, and so no step waits for the GPU; and
    before each checkpoint, then at the trained weights too (a gradient can be nan where the loss is not) and at batch
    norm's statistics and other buffers (a variance can be inf where the loss is not), so that none is written with
    weights that are lost. Of losses it names the step that was the first, not the one in which it looked. Every process
    stops when one finds something. Steps that AMP's gradient scaler leaves out are no errors: only losses count.

    Args:
        max_skipped: So many steps of the whole run, resumed or not, may have a total loss that is nan or inf: they
            are left out, as if their images had not been there (no parameter, momentum or batch norm statistic
            changes; with gradient accumulation the whole accumulated step is left out). The next one ends the run.
            With any number but 0 each step waits for the GPU and the other processes.

    >>> FiniteLossHook(max_skipped=-1)
    Traceback (most recent call last):
    ValueError: max_skipped=-1 must be an integer at least 0
    """

    # After the logger, whose line shows the loss, and before the checkpoint.
    priority = 'LOW'

    def __init__(self, max_skipped: int = 0) -> None:
        self.max_skipped = check_number('max_skipped', max_skipped, 0, integer=True)
        self._terms = StepTerms()
        self._backup = BufferBackup()
        self._skipped_now = False
        self._last_step: Optional[int] = None  # whose weights have not been looked at

    def before_train(self, runner: Runner) -> None:
        if self.max_skipped:
            for wrapper in optim_wrappers(runner):
                skip_nonfinite_steps(wrapper, lambda: self._on_skip(runner))

    def _on_skip(self, runner: Runner) -> None:
        self._skipped_now = True
        self._backup.restore(unwrap(runner))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if self.max_skipped:
            self._backup.take(unwrap(runner))

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        self._last_step = runner.iter + 1
        self._terms.add(self._last_step, [item for item in (outputs or {}).items() if 'loss' in item[0]])
        if self._skipped_now:
            self._skipped_now = False
            self._count_skipped(runner)
        elif is_read(runner, batch_idx):
            self._check_losses(runner)
        if is_saved(runner):
            self._check_weights(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        self._check_losses(runner)
        self._check_weights(runner)

    def before_val(self, runner: Runner) -> None:  # which may save the best checkpoint
        self._check_losses(runner)
        self._check_weights(runner)

    def _count_skipped(self, runner: Runner) -> None:
        what = self._first_nonfinite_loss() or f'the total loss is nan or inf in iteration {runner.iter + 1}'
        skipped = runner.message_hub.get_info('skipped_steps', 0)  # a checkpoint holds it
        if skipped >= self.max_skipped:
            raise TrainingStopped(f'{what}, after {skipped} skipped steps (max_skipped={self.max_skipped}); '
                                  f'{last_checkpoint(runner)}')
        runner.message_hub.update_info('skipped_steps', skipped + 1)
        runner.logger.warning(f'{what}: step skipped ({skipped + 1} of at most {self.max_skipped})')

    def _check_losses(self, runner: Runner) -> None:
        what = self._first_nonfinite_loss() if self._terms else None
        if what:
            raise TrainingStopped(f'{what}; {last_checkpoint(runner)}')

    def _first_nonfinite_loss(self) -> Optional[str]:
        own = None
        for iteration, terms in self._terms.drain():
            broken = {name: value for name, value in terms if not math.isfinite(value)}
            if broken:
                if len(broken) > 1:
                    broken.pop('loss', None)  # the total, which any of the others makes so
                values = ', '.join(f'{name} is {value}' for name, value in broken.items())
                own = iteration, get_rank(), f'{values} in iteration {iteration}'
                break
        return describe(first_of_all(own))

    def _check_weights(self, runner: Runner) -> None:
        if self._last_step is None:
            return
        step, self._last_step = self._last_step, None
        name = nonfinite_tensor(unwrap(runner))
        text = f'the {name} holds nan or inf after iteration {step}, though no loss did'
        what = describe(first_of_all((step, get_rank(), text) if name else None))
        if what:
            raise TrainingStopped(f'{what}; {last_checkpoint(runner)}')


def first_of_all(own: Optional[Finding]) -> Optional[Finding]:
    """The first finding of all processes; None where no process has one."""
    found = torch.tensor(float(own is not None))
    all_reduce(found, 'max')  # the common case, cheaper than gathering objects
    return min(filter(None, all_gather_object(own))) if found else None


def describe(finding: Optional[Finding]) -> Optional[str]:
    """A finding in words, with its process where there are several."""
    if finding is None:
        return None
    _, rank, what = finding
    return f'{what} (process {rank})' if get_world_size() > 1 else what


@torch.no_grad()
def nonfinite_tensor(model: nn.Module) -> Optional[str]:
    """What holds nan or inf, of the trained parameters and the buffers that are saved; it waits for the device once.

    Buffers that no checkpoint holds may: masks of minus infinity, for instance.

    >>> norm = nn.BatchNorm1d(1)
    >>> nonfinite_tensor(norm)
    >>> norm.running_var.fill_(float('inf'))
    tensor([inf])
    >>> nonfinite_tensor(norm)
    'buffer running_var'
    """
    tensors = {f'weight {name}': value for name, value in model.named_parameters() if value.requires_grad}
    saved = model.state_dict()
    tensors.update((f'buffer {name}', value) for name, value in model.named_buffers()
                   if name in saved and value.is_floating_point())
    tensors = {name: value for name, value in tensors.items() if value.numel()}  # an empty one has no maximum
    if not tensors:
        return None
    # The largest absolute value, nan if there is one, is never rounded to inf, and costs few kernels for all tensors.
    largest = torch._foreach_norm(list(tensors.values()), math.inf)
    finite = torch.stack([value.to(largest[0].device) for value in largest]).isfinite()
    return next((name for name, good in zip(tensors, finite.tolist()) if not good), None)


def last_checkpoint(runner: Runner) -> str:
    """The checkpoint from which a stopped run can go on, in words."""
    path = runner.message_hub.get_info('last_ckpt') or (runner._load_from if runner._resume else None)
    return f'the last checkpoint before it is {path}' if path else 'no checkpoint had been saved'
