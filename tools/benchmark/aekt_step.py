"""How long an AEKT step takes through MMEngine, beside the same maths bare, MMRazor's DKD and the student alone.

python tools/benchmark/aekt_step.py --pairs resnet32x4_resnet8x4 resnet110_resnet32 --repeats 5

Ours is the whole ``train_step`` of ``MultiTeacherDistill`` with ``AEKTDistiller``, MMRazor's that of
``SingleTeacherDistill`` with ``DKDLoss``; the bare loop has our maths without MMEngine, the student alone has no
teacher. Ours again with ``teacher_cache``: images from a data set, augmented, and the teacher's logits from a file. All
have the layout and precision of our configs but MMRazor's, which is as published, and ours alone is compiled if asked.
The rivals take turns, on a GPU of many steps in a row, and the median counts.
"""
import argparse
import tempfile
from pathlib import Path
from typing import List, Optional

from measure import block_of, environment, in_ms, median_times

# The module beside this one must come before torch.
# isort: split

from loader import RandomBatchedCIFAR100, RandomCIFAR100
from steps import Batch, Step, aekt_model, bare_aekt_step, dkd_step, engine_step, split_pair, student_step
from switches import Switches, add_arguments, add_switches, forget_compiled, prepare, read_switches
from torch import nn

from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.models.teacher_recording import record_teachers

AUGMENT = [dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4), dict(type='mmpretrain.RandomFlip', prob=0.5)]


def cached_step(model: nn.Module, batch: Batch, path: Path, switches: Switches) -> Step:
    """The ``train_step`` of our configs without a teacher, the batch fetched from a data set."""
    RandomCIFAR100.num_images = len(batch.labels)
    dataset = RandomBatchedCIFAR100('none', pipeline=AUGMENT, download=False)
    model.to(batch.device)
    # In full: networks of random weights answer with numbers that half precision cannot hold.
    record_teachers(model, dataset, str(path), dtype='float32', report=lambda line: None)
    model.teacher_cache = str(path)
    model.train()
    rows = list(range(len(dataset)))
    return engine_step(model, batch, switches, data=lambda: dataset.__getitems__(rows))


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
        print("| pair | ours, ms | bare loop, ms | MMRazor's DKD, ms | cached, ms | student alone, ms | ours / bare "
              '| DKD / ours | cached / alone |\n' + '|---' * 9 + '|')
        for pair in args.pairs:
            forget_compiled()
            teacher, student = split_pair(pair)
            steps = dict(ours=engine_step(aekt_model(student, [teacher]), batch, switches),
                         bare=bare_aekt_step(aekt_model(student, [teacher]), batch, switches),
                         dkd=dkd_step(student, teacher, batch),
                         alone=student_step(aekt_model(student, [teacher]), batch, switches))
            with tempfile.TemporaryDirectory() as folder:
                steps['cached'] = cached_step(aekt_model(student, [teacher]), batch, Path(folder, 'cache'), switches)
                times = median_times(steps, args.repeats, block=block)
            ms = in_ms(times)
            print(f'| {pair} | {ms["ours"]} | {ms["bare"]} | {ms["dkd"]} | {ms["cached"]} | {ms["alone"]} '
                  f'| {times["ours"] / times["bare"]:.2f} | {times["dkd"] / times["ours"]:.2f} '
                  f'| {times["cached"] / times["alone"]:.2f} |', flush=True)


if __name__ == '__main__':
    main()
