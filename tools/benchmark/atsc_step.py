"""How long an ATSC step takes through MMEngine, beside the same maths bare and the authors' loop (CPU or GPU).

python tools/benchmark/atsc_step.py --pairs resnet110_resnet32 resnet32x4_resnet8x4 --repeats 5

Ours is the whole ``train_step``: data preprocessor, one forward of each network, the losses, one backward, the
optimizer, with the networks laid out and compiled as our configs have them (``AccelerateHook``). The bare loop has the
same maths, layout and precision without MMEngine and without a compiler: the floor. The authors' loop has the same
networks as they are published, in fp32, two optimizers, a second forward and backward of the teacher for its
classifier, and a Python loop over the parameters for the penalty; its images come normalised. The rivals take turns, on
a GPU of many steps in a row, and the median counts.
"""
import argparse
from typing import List, Optional

from measure import block_of, environment, in_ms, median_times, peak_memory

# The module beside this one must come before torch.
# isort: split

from steps import Batch, atsc_model, authors_atsc_step, bare_atsc_step, engine_step, split_pair
from switches import add_arguments, add_switches, forget_compiled, prepare, read_switches

from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_number


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pairs', nargs='+', default=['resnet110_resnet32', 'resnet32x4_resnet8x4'])
    parser.add_argument('--repeats', type=int, default=5)
    add_arguments(parser)
    add_switches(parser)
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        check_number('--repeats', args.repeats, 1, integer=True)
        device, switches = prepare(args), read_switches(args)
        batch, block = Batch(args.batch, device), block_of(device)
        print(f'{environment(device)}; batch {args.batch}, ours {switches}, '
              f'median of {args.repeats} turns of {block}\n')
        print("| pair | ours, ms | bare loop, ms | authors' loop, ms | ours / bare | authors' / ours "
              "| without anchor, ms | memory, ours / authors' |\n" + '|---' * 8 + '|')
        for pair in args.pairs:
            forget_compiled()
            teacher, student = split_pair(pair)
            steps = dict(
                ours=engine_step(atsc_model(student, [teacher]), batch, switches),
                bare=bare_atsc_step(atsc_model(student, [teacher]), batch, switches),
                authors=authors_atsc_step(atsc_model(student, [teacher]), batch),
                free=bare_atsc_step(atsc_model(student, [teacher]), batch, switches, with_anchor=False))
            times = median_times(steps, args.repeats, block=block)
            ms = in_ms(times)
            # What a CUDA graph works in is held between the steps too and would not be seen.
            memory = '-' if switches.has_cuda_graphs else (
                f'{peak_memory(steps["ours"], device) / peak_memory(steps["authors"], device):.2f}')
            print(f'| {pair} | {ms["ours"]} | {ms["bare"]} | {ms["authors"]} '
                  f'| {times["ours"] / times["bare"]:.2f} | {times["authors"] / times["ours"]:.2f} '
                  f'| {ms["free"]} | {memory} |', flush=True)


if __name__ == '__main__':
    main()
