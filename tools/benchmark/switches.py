"""What the benchmarks of training have in common on the command line: the batch, the device, and the fast switches."""
import argparse
from contextlib import AbstractContextManager
from typing import NamedTuple, Union

from measure import default_device, set_tf32

# The module beside this one must come before torch.
# isort: split

import torch

import mmkd_atsc  # noqa: F401  makes mmrazor importable
from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.runtime.accelerate import AccelerateHook


class Switches(NamedTuple):
    """The switches of our configs that make a training fast, ``channels_last`` and ``compile`` as in their hook.

    >>> str(Switches(amp=True, compile=dict(mode='reduce-overhead')))
    'bf16, compiled with CUDA graphs'
    >>> str(Switches(channels_last=False))
    'fp32, contiguous'
    """

    amp: bool = False
    channels_last: Union[bool, str] = 'auto'
    compile: Union[bool, dict] = False

    def hook(self) -> AccelerateHook:
        return AccelerateHook(self.channels_last, self.compile)

    def layout_hook(self) -> AccelerateHook:
        """For a bare loop, which has our layout and is not compiled."""
        return AccelerateHook(self.channels_last)

    def optim_wrapper(self) -> dict:
        """What the config's ``optim_wrapper`` has more: bf16 needs no scaler, and MMEngine's would wait for the GPU."""
        if self.amp:
            return dict(type='AmpOptimWrapper', dtype='bfloat16', loss_scale=dict(enabled=False))
        return dict(type='OptimWrapper')

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """The same for a bare loop."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.amp)

    @property
    def has_cuda_graphs(self) -> bool:
        return isinstance(self.compile, dict) and self.compile.get('mode') == 'reduce-overhead'

    def __str__(self) -> str:
        words = ['bf16' if self.amp else 'fp32']
        words += ['contiguous'] * (self.channels_last is False)
        words += ['compiled' + ' with CUDA graphs' * self.has_cuda_graphs] * (self.compile is not False)
        return ', '.join(words)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that :func:`prepare` reads."""
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--threads', type=int, help="default: torch's")
    parser.add_argument('--tf32', action='store_true', help='fp32 products may be rounded to TF32 on a GPU, for all')


def add_switches(parser: argparse.ArgumentParser) -> None:
    """The arguments that :func:`read_switches` reads."""
    parser.add_argument('--contiguous', action='store_true', help='ours and the bare loop without channels_last')
    parser.add_argument('--amp', action='store_true', help='ours and the bare loop in bf16 (needs a GPU)')
    parser.add_argument('--compile', action='store_true', help='ours compiled')
    parser.add_argument('--cuda-graphs', action='store_true', help='ours compiled, with CUDA graphs (needs a GPU)')


def prepare(args: argparse.Namespace) -> torch.device:
    """Checks and sets what all training benchmarks have in common; the device to measure on."""
    check_number('--batch', args.batch, 2, integer=True)
    if args.threads is not None:
        torch.set_num_threads(check_number('--threads', args.threads, 1, integer=True))
    set_tf32(args.tf32)
    torch.backends.cudnn.benchmark = True  # as our configs and the authors' script set it
    return default_device()


def forget_compiled() -> None:
    """Before the next pair: what is compiled shares one limit in a process, beyond which all runs as it is, unsaid."""
    torch.compiler.reset()


def read_switches(args: argparse.Namespace) -> Switches:
    if not torch.cuda.is_available():
        if args.amp:
            raise ValueError('--amp needs a GPU: MMEngine has automatic mixed precision on GPUs only')
        if args.cuda_graphs:
            raise ValueError('--cuda-graphs needs a GPU; --compile does not')
    return Switches(args.amp, False if args.contiguous else 'auto',
                    dict(mode='reduce-overhead') if args.cuda_graphs else args.compile)
