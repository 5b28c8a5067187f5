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

    A step's terms are copied (one kernel), because what a compiled model returns is overwritten by its next step.

    >>> terms = StepTerms()
    >>> terms.add(1, [('loss', torch.tensor(0.5)), ('samples', 64)])
    >>> terms.add(2, [('loss', torch.tensor(0.25))])
    >>> terms.drain()
    [(1, [('loss', 0.5), ('samples', 64)]), (2, [('loss', 0.25)])]
    >>> terms.drain()
    []
    """

    def __init__(self) -> None:
        self._steps: list[tuple[int, list[list]]] = []  # of each term its name and value
        # By device and dtype, so that each number is what .item() gives: the copies, and the terms that wait for them.
        self._waiting: dict[tuple, tuple[list[Tensor], list[list]]] = {}

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, iteration: int, terms: Iterable[tuple[str, Any]]) -> None:
        step = [list(term) for term in terms]
        self._steps.append((iteration, step))
        groups: dict[tuple, list[list]] = {}
        for term in step:
            if isinstance(term[1], Tensor):
                groups.setdefault((term[1].device, term[1].dtype), []).append(term)
        for kind, group in groups.items():
            copies, waiting = self._waiting.setdefault(kind, ([], []))
            copies.append(torch.stack([value.detach().reshape(()) for _, value in group]))
            waiting.extend(group)
            for term in group:
                term[1] = None  # the tensor would keep its graph alive

    def drain(self) -> list[tuple[int, list[tuple[str, Any]]]]:
        """The iteration and terms of all steps added since the last call; this waits for the device."""
        for copies, waiting in self._waiting.values():
            for term, number in zip(waiting, torch.cat(copies).tolist()):
                term[1] = number
        steps = [(iteration, [(name, value) for name, value in step]) for iteration, step in self._steps]
        self._steps, self._waiting = [], {}
        return steps


def checkpoint_is_due(runner: Runner) -> bool:
    """Whether a hook that counts iterations saves a checkpoint after the current one."""
    return any(hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
               or (hook.save_last and hook.is_last_train_iter(runner))
               for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch)


def losses_are_due(runner: Runner, batch_idx: int) -> bool:
    """Whether losses are read after the current iteration: for a line, a checkpoint, or because an epoch ends.

    It depends on counters alone and so has the same answer in all processes.
    """
    done = runner.iter + 1
    return (done % MOST_STEPS == 0 or done == runner.max_iters or batch_idx + 1 == len(runner.train_dataloader)
            or any(hook.every_n_inner_iters(batch_idx, hook.interval)
                   for hook in runner.hooks if isinstance(hook, LoggerHook))
            or checkpoint_is_due(runner))
