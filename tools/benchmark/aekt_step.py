"""How long an AEKT step takes through MMEngine, beside the same maths bare, MMRazor's DKD and the student alone.

python tools/benchmark/aekt_step.py --pairs resnet32x4_resnet8x4 resnet110_resnet32 --repeats 5

Ours is the whole ``train_step`` of ``MultiTeacherDistill`` with ``AEKTDistiller``, MMRazor's that of
``SingleTeacherDistill`` with ``DKDLoss``; the bare loop has our maths without MMEngine, the student alone has no
teacher. Ours again with ``teacher_cache``: images from a data set, augmented, and the teacher's logits from a file. All
have the layout of our configs but MMRazor's, which is as published. The rivals take turns and the median counts.
"""
import argparse
import tempfile
from pathlib import Path
from typing import List, Optional

from measure import environment, median_times

# The module beside this one must come before torch.
# isort: split

import steps as builders
import torch
from loader import RandomBatchedCIFAR100, RandomCIFAR100
from steps import Batch, aekt_model, bare_aekt_step, dkd_model, engine_step, split_pair, student_step
from torch import nn

from mmkd_atsc import cli
from mmkd_atsc.checks import check_number
from mmkd_atsc.models.data_preprocessors import BatchedDataPreprocessor
from mmkd_atsc.models.teacher_recording import record_teachers

AUGMENT = [dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4), dict(type='mmpretrain.RandomFlip', prob=0.5)]


def cached_step(model: nn.Module, batch: Batch, path: Path) -> builders.Step:
    """The ``train_step`` of our configs without a teacher, the batch fetched from a data set."""
    RandomCIFAR100.num_images = len(batch.labels)
    dataset = RandomBatchedCIFAR100('none', pipeline=AUGMENT, download=False)
    options = {name: value for name, value in builders.PREPROCESSOR.items() if name != 'type'}
    model.data_preprocessor = BatchedDataPreprocessor(**options)
    model.to(batch.device)
    # In full: networks of random weights answer with numbers that half precision cannot hold.
    record_teachers(model, dataset, str(path), dtype='float32', report=lambda line: None)
    model.teacher_cache = str(path)
    model.train()
    rows = list(range(len(dataset)))
    return engine_step(model, batch, data=lambda: dataset.__getitems__(rows))


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
        print("| pair | ours, ms | bare loop, ms | MMRazor's DKD, ms | cached, ms | student alone, ms | ours / bare "
              '| DKD / ours | cached / alone |\n' + '|---' * 9 + '|')
        for pair in args.pairs:
            teacher, student = split_pair(pair)
            models = dict(ours=aekt_model(student, [teacher]), bare=aekt_model(student, [teacher]),
                          cached=aekt_model(student, [teacher]), alone=aekt_model(student, [teacher]))
            for model in models.values():
                model.to(memory_format=torch.channels_last)
            steps = dict(ours=engine_step(models['ours'], batch), bare=bare_aekt_step(models['bare'], batch),
                         dkd=engine_step(dkd_model(student, teacher), batch),
                         alone=student_step(models['alone'], batch))
            with tempfile.TemporaryDirectory() as folder:
                steps['cached'] = cached_step(models['cached'], batch, Path(folder, 'cache'))
                times = {name: 1e3 * seconds for name, seconds in median_times(steps, args.repeats).items()}
            print(f'| {pair} | {times["ours"]:.0f} | {times["bare"]:.0f} | {times["dkd"]:.0f} | {times["cached"]:.0f} '
                  f'| {times["alone"]:.0f} | {times["ours"] / times["bare"]:.2f} | {times["dkd"] / times["ours"]:.2f} '
                  f'| {times["cached"] / times["alone"]:.2f} |', flush=True)


if __name__ == '__main__':
    main()
