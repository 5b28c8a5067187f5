"""How long an ATSC step takes through MMEngine, beside the same maths bare and the authors' loop (CPU or GPU).

python tools/benchmark/atsc_step.py --pairs resnet110_resnet32 resnet32x4_resnet8x4 --repeats 5

Ours is the whole ``train_step``: data preprocessor, one forward of each network, the losses, one backward, the
optimizer, with the networks laid out as our configs have them (``AccelerateHook``). The bare loop has the same maths
and layout without MMEngine: the floor. The authors' loop has the same networks as they are published, two optimizers, a
second forward and backward of the teacher for its classifier, and a Python loop over the parameters for the penalty;
its images come normalised. The rivals take turns and the median counts.
"""
import argparse
from typing import List, Optional

from measure import environment, median_times, peak_memory

# The module beside this one must come before torch.
# isort: split

import torch
from steps import Batch, atsc_model, authors_atsc_step, bare_atsc_step, engine_step, split_pair
from torch import nn

from mmkd_atsc import cli
from mmkd_atsc.checks import check_number
from mmkd_atsc.engine.accelerate import backbones_of, compile_guarded


def laid_out(model: nn.Module, args: argparse.Namespace) -> nn.Module:
    """A model as our configs train it."""
    if not args.contiguous:
        model.to(memory_format=torch.channels_last)
    if args.compile:
        for name, network in backbones_of(model):
            compile_guarded(network, name)
    return model


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pairs', nargs='+', default=['resnet110_resnet32', 'resnet32x4_resnet8x4'])
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, help="default: torch's")
    parser.add_argument('--contiguous', action='store_true', help='ours and the bare loop without channels_last')
    parser.add_argument('--compile', action='store_true', help='ours compiled')
    parser.add_argument('--amp', action='store_true', help='ours in bf16 (needs a GPU)')
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        check_number('--batch', args.batch, 2, integer=True)
        check_number('--repeats', args.repeats, 1, integer=True)
        if args.threads is not None:
            torch.set_num_threads(check_number('--threads', args.threads, 1, integer=True))
        if args.amp and not torch.cuda.is_available():
            raise ValueError('--amp needs a GPU: MMEngine has automatic mixed precision on GPUs only')
        batch = Batch(args.batch, torch.device('cuda' if torch.cuda.is_available() else 'cpu'))
        print(f'{environment()}; batch {args.batch}, {"bf16" if args.amp else "fp32"}, '
              f'{"contiguous" if args.contiguous else "channels last"}{", compiled" * args.compile}, '
              f'median of {args.repeats}\n')
        print("| pair | ours, ms | bare loop, ms | authors' loop, ms | ours / bare | authors' / ours "
              "| without anchor, ms | memory, ours / authors' |\n" + '|---' * 8 + '|')
        for pair in args.pairs:
            teacher, student = split_pair(pair)
            steps = dict(
                ours=engine_step(laid_out(atsc_model(student, [teacher]), args), batch, args.amp),
                bare=bare_atsc_step(laid_out(atsc_model(student, [teacher]), args), batch),
                authors=authors_atsc_step(atsc_model(student, [teacher]), batch),
                free=bare_atsc_step(laid_out(atsc_model(student, [teacher]), args), batch, with_anchor=False))
            times = {name: 1e3 * seconds for name, seconds in median_times(steps, args.repeats).items()}
            memory = peak_memory(steps['ours']) / peak_memory(steps['authors'])
            print(f'| {pair} | {times["ours"]:.0f} | {times["bare"]:.0f} | {times["authors"]:.0f} '
                  f'| {times["ours"] / times["bare"]:.2f} | {times["authors"] / times["ours"]:.2f} '
                  f'| {times["free"]:.0f} | {memory:.2f} |', flush=True)


if __name__ == '__main__':
    main()
