"""Random numbers: where they stand in a process, and batches that bring their own."""
import random
from typing import Iterator, Sequence, Tuple

import numpy as np
import torch


def random_state() -> dict:
    """Where the random numbers of Python, NumPy and PyTorch stand, in values that a checkpoint may hold.

    >>> state = random_state()
    >>> first = random.random(), np.random.rand(), torch.rand(())
    >>> set_random_state(state)
    >>> first == (random.random(), np.random.rand(), torch.rand(()))
    True
    """
    kind, keys, position, has_gauss, gauss = np.random.get_state()
    state = dict(python=random.getstate(), torch=torch.get_rng_state(),
                 numpy=(kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss))
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict) -> None:
    """Goes back to where :func:`random_state` was."""
    kind, keys, *rest = state['numpy']
    version, inner, gauss = state['python']
    random.setstate((version, tuple(inner), gauss))
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())


def seed_all(entropy: Sequence[int]) -> None:
    """Seeds Python, NumPy and PyTorch from a few integers; those that differ in one give unrelated numbers."""
    python, numpy, first, second = np.random.SeedSequence(list(entropy)).generate_state(4).tolist()
    random.seed(python)
    np.random.seed(numpy)
    torch.manual_seed(first << 31 | second >> 1)


class SeededBatch(list):
    """The indices of a batch, for a worker process, whose random numbers are seeded when it begins to fetch them.

    So what is random in a batch depends on what batch it is, not on those that the same worker fetched before.

    >>> batch = SeededBatch([3, 1], (0, 7))
    >>> first, second = ([*batch, random.random()] for _ in range(2))
    >>> first[:2], first == second
    ([3, 1], True)
    """

    def __init__(self, indices: Sequence[int], entropy: Tuple[int, ...]) -> None:
        super().__init__(indices)
        self.entropy = entropy

    def __iter__(self) -> Iterator[int]:
        seed_all(self.entropy)
        return super().__iter__()

    def __reduce__(self) -> tuple:  # the default iterates over it in the process that sends it
        return SeededBatch, (self[:], self.entropy)
