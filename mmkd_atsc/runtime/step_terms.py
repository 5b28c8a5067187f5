"""What the steps of a training gave, kept on their device until somebody reads it."""
from typing import Any, Dict, Iterable, List, Tuple

import torch
from mmengine.hooks import CheckpointHook, LoggerHook
from mmengine.runner import Runner
from torch import Tensor

# The most steps that wait where no line is logged and no epoch ends: they cost memory.
MOST_STEPS = 1000


class StepTerms:
    """Terms of steps: taken without waiting for the device, given out as numbers with one transfer for all.

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
        self._steps: List[Tuple[int, List[list]]] = []
        # By device and dtype, so that each number comes out as its own .item() would: the copies, and their places.
        self._waiting: Dict[tuple, Tuple[List[Tensor], List[list]]] = {}

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, iteration: int, terms: Iterable[Tuple[str, Any]]) -> None:
        """Takes the terms of a step, in the order in which they shall come out."""
        places = [list(term) for term in terms]
        self._steps.append((iteration, places))
        groups: Dict[tuple, List[list]] = {}
        for place in places:
            if isinstance(place[1], Tensor):
                groups.setdefault((place[1].device, place[1].dtype), []).append(place)
        for kind, group in groups.items():
            copies, waiting = self._waiting.setdefault(kind, ([], []))
            copies.append(torch.stack([value.detach().reshape(()) for _, value in group]))
            waiting.extend(group)
            for place in group:
                place[1] = None  # else the graph behind it would live on

    def drain(self) -> List[Tuple[int, List[Tuple[str, Any]]]]:
        """All steps taken since the last time, their iteration and terms; this waits for the device."""
        for copies, waiting in self._waiting.values():
            for place, number in zip(waiting, torch.cat(copies).tolist()):
                place[1] = number
        steps = [(iteration, [(name, value) for name, value in places]) for iteration, places in self._steps]
        self._steps, self._waiting = [], {}
        return steps


def is_saved(runner: Runner) -> bool:
    """Whether a checkpoint is due after the current iteration, for one of the hooks that count iterations."""
    return any(hook.every_n_train_iters(runner, hook.interval, hook.save_begin)
               or (hook.save_last and hook.is_last_train_iter(runner))
               for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch)


def is_read(runner: Runner, batch_idx: int) -> bool:
    """Whether the terms are read after the current iteration: for a line, a checkpoint, or because an epoch ends.

    It depends on counters alone and so has the same answer in all processes.
    """
    done = runner.iter + 1
    return (done % MOST_STEPS == 0 or done == runner.max_iters or batch_idx + 1 == len(runner.train_dataloader)
            or any(hook.every_n_inner_iters(batch_idx, hook.interval)
                   for hook in runner.hooks if isinstance(hook, LoggerHook))
            or is_saved(runner))
