"""What an export wrote, and how well it agrees with the checkpoint it came from."""
from pathlib import Path
from typing import Callable, Dict, NamedTuple

from torch import Tensor

# Of the largest logit: another runtime adds up in another order.
OTHER_RUNTIME = 1e-4


class ExportReport(NamedTuple):
    """The files by name (``checkpoint``, ``onnx``, ...), and for each the largest difference of a logit."""

    files: Dict[str, Path]
    config: Path
    differences: Dict[str, float]
    parameters: int
    trained_parameters: int

    def __str__(self) -> str:
        width = max(len(str(path)) for path in self.files.values())
        lines = [f'{self.config}: {self.parameters:,} parameters of the {self.trained_parameters:,} in the checkpoint']
        lines += [f'{str(path):<{width}}  {path.stat().st_size / 1e6:8.2f} MB  largest difference of a logit '
                  f'{self.differences[name]:.1e}' for name, path in self.files.items()]
        return '\n'.join(lines)


def check_difference(name: str, logits: Tensor, expected: Tensor, allowed: float) -> float:
    """The largest difference of two sets of logits; refused above ``allowed`` times their size (1 at the least).

    >>> from torch import tensor
    >>> check_difference('student.onnx', tensor([[1.5, 4.]]), tensor([[1.5, 4.]]), 1e-4)
    0.0
    """
    if logits.shape != expected.shape:
        raise ValueError(f'{name} gives an output of shape {tuple(logits.shape)}, the checkpoint one of '
                         f'{tuple(expected.shape)}')
    difference = (logits.float() - expected).abs().max().item()
    limit = allowed * max(1.0, expected.abs().max().item())
    if not difference <= limit:  # nan too
        raise ValueError(f'{name} does not predict what the checkpoint does: its logits differ by {difference:.2g}, '
                         f'at most {limit:.2g} is allowed; nothing was written')
    return difference


def check_runs(name: str, run: Callable[[Tensor], Tensor], images: Tensor, expected: Tensor) -> float:
    """:func:`check_difference` of another runtime, for all of the images, and for one alone."""
    difference = check_difference(name, run(images), expected, OTHER_RUNTIME)
    try:
        return max(difference, check_difference(name, run(images[:1]), expected[:1], OTHER_RUNTIME))
    except Exception as error:  # each runtime has its own
        raise ValueError(f'{name}: the network, as this format sees it, takes {len(images)} images at a time and no '
                         'other number; nothing was written') from error
