"""How long an AEKT step takes through MMEngine, beside the same maths bare, MMRazor's DKD and the student alone.

python tools/benchmark/aekt_step.py --pairs resnet32x4_resnet8x4 resnet110_resnet32 --repeats 5

Ours is the whole ``train_step`` of ``MultiTeacherDistill`` with ``AEKTDistiller``, MMRazor's that of
``SingleTeacherDistill`` with ``DKDLoss``; the bare loop has our maths without MMEngine, the student alone has no
teacher. All have the layout of our configs but MMRazor's, which is as published. The rivals take turns and the median
counts.
"""
import argparse
from typing import List, Optional

from measure import environment, median_times

# The module beside this one must come before torch.
# isort: split

import torch
from steps import Batch, aekt_model, bare_aekt_step, dkd_model, engine_step, split_pair, student_step

from mmkd_atsc import cli
from mmkd_atsc.checks import check_number


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pairs', nargs='+', default=['resnet110_resnet32', 'resnet32x4_resnet8x4'])
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--threads', type=int, help="default: torch's")
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        check_number('--batch', args.batch, 2, integer=True)
        check_number('--repeats', args.repeats, 1, integer=True)
        if args.threads is not None:
            torch.set_num_threads(check_number('--threads', args.threads, 1, integer=True))
        batch = Batch(args.batch, torch.device('cuda' if torch.cuda.is_available() else 'cpu'))
        print(f'{environment()}; batch {args.batch}, fp32, median of {args.repeats}\n')
        print("| pair | ours, ms | bare loop, ms | MMRazor's DKD, ms | student alone, ms | ours / bare | DKD / ours |\n"
              + '|---' * 7 + '|')
        for pair in args.pairs:
            teacher, student = split_pair(pair)
            models = dict(ours=aekt_model(student, [teacher]), bare=aekt_model(student, [teacher]),
                          alone=aekt_model(student, [teacher]))
            for model in models.values():
                model.to(memory_format=torch.channels_last)
            steps = dict(ours=engine_step(models['ours'], batch), bare=bare_aekt_step(models['bare'], batch),
                         dkd=engine_step(dkd_model(student, teacher), batch),
                         alone=student_step(models['alone'], batch))
            times = {name: 1e3 * seconds for name, seconds in median_times(steps, args.repeats).items()}
            print(f'| {pair} | {times["ours"]:.0f} | {times["bare"]:.0f} | {times["dkd"]:.0f} | {times["alone"]:.0f} '
                  f'| {times["ours"] / times["bare"]:.2f} | {times["dkd"] / times["ours"]:.2f} |', flush=True)


if __name__ == '__main__':
    main()
