"""Keeps the losses of training steps on their device until they are needed as numbers."""
from collections.abc import Iterable
from typing import Any

import torch
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.runner import Runner
from torch import Tensor

# The most steps that wait where no line is logged and no epoch ends: they cost memory.
MOST_STEPS = 1000


class StepTerms:
    """The terms of training steps: added without waiting for the device, read with one transfer for all.

    They are not copied: a step must not write where an earlier one returned its losses.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[int, list[tuple[str, Any]]]] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, iteration: int, terms: Iterable[tuple[str, Any]]) -> None:
        self._steps.append((iteration, [(name, value.detach() if isinstance(value, Tensor) else value)
                                        for name, value in terms]))

    def drain(self) -> list[tuple[int, list[tuple[str, Any]]]]:
        """The iteration and terms of all steps added since the last call; this waits for the device."""
        steps, self._steps = self._steps, []
        groups: dict[tuple, list[Tensor]] = {}  # by device and dtype, so that each number is what .item() gives
        for value in (value for _, terms in steps for _, value in terms if isinstance(value, Tensor)):
            groups.setdefault((value.device, value.dtype), []).append(value.reshape(()))
        numbers = {kind: iter(torch.stack(values).tolist()) for kind, values in groups.items()}
        return [(iteration, [(name, next(numbers[value.device, value.dtype]) if isinstance(value, Tensor) else value)
                             for name, value in terms]) for iteration, terms in steps]


def losses_are_due(runner: Runner, batch_idx: int) -> bool:
    """Whether losses are read after the current iteration: for a line, a checkpoint, or because an epoch ends.

    It depends on counters alone and so has the same answer in all processes. A model that MMEngine compiles with
    options may write its next losses where these are, so they are read in each step.
    """
    done = runner.iter + 1
    return (done % MOST_STEPS == 0 or done == runner.max_iters or batch_idx + 1 == len(runner.train_dataloader)
            or isinstance(runner.cfg.get('compile'), dict)
            or any(hook.every_n_inner_iters(batch_idx, hook.interval) if isinstance(hook, LoggerHook) else
                   isinstance(hook, CheckpointHook) and not hook.by_epoch
                   and hook.every_n_train_iters(runner, hook.interval, hook.save_begin) for hook in runner.hooks))
