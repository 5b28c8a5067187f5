"""Saves and restores random-number state; seeds each batch of a worker process."""
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch


def random_state() -> dict:
    """The state of the random numbers of Python, NumPy and PyTorch, in values that a checkpoint may hold."""
    numpy: Any = np.random.get_state()  # NumPy declares a dict as well
    kind, keys, *rest = numpy
    state = dict(python=random.getstate(), torch=torch.get_rng_state(),
                 numpy=(kind, torch.from_numpy(keys.astype(np.int64)), *rest))
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict) -> None:
    """Restores what :func:`random_state` returned."""
    kind, keys, *rest = state['numpy']
    version, inner, gauss = state['python']
    random.setstate((version, tuple(inner), gauss))
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


class SeededBatch(list):
    """The indices of a batch. A worker process that iterates over them to fetch the images seeds itself first."""

    def __init__(self, indices: Sequence[int], entropy: tuple[int, ...]) -> None:
        super().__init__(indices)
        self.entropy = entropy

    def __iter__(self) -> Iterator[int]:
        python, numpy, first, second = np.random.SeedSequence(list(self.entropy)).generate_state(4).tolist()
        random.seed(python)
        np.random.seed(numpy)
        torch.manual_seed(first << 31 | second >> 1)
        return super().__iter__()

    def __reduce__(self) -> tuple:  # the default iterates over it in the process that sends it
        return SeededBatch, (self[:], self.entropy)
