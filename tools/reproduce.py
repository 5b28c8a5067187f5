"""Trains all rows of a table and prints it; run again, it goes on where it stopped.

python tools/reproduce.py SUITE --out DIR [--budget MINUTES] [--seeds 0 1 2] [--rows PATTERN ...] [--workers N]
                          [--held-out] [--cfg-options KEY=VALUE ...]

  digits                  the demo's rows: minutes on a CPU
  cifar100-cpu            six epochs of every method on CIFAR-100, ResNet-20 to ResNet-8: hours on two cores
  cifar100                the literature's protocol, 240 epochs, for two pairs and several teachers: needs a GPU

Finished rows are not trained again. Interrupted rows go on from their last checkpoint. If a row fails, the others go
on. tools/analysis/compare.py writes the table to DIR/compare.md and DIR/compare.csv.

--held-out is for choosing settings: it scores the last 5,000 training images, on which nothing is trained, and not the
test images. Give another DIR for it, and for other --cfg-options.
"""
import argparse
import fnmatch
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from analysis.compare import main as compare
from analysis.suite import Failed, Result, Row, run_suite
from analysis.training import Stop
from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_choice, check_number
from mmkd_atsc.paths import CONFIGS

METHODS = ('kd', 'dkd', 'simkd', 'aekt', 'atsc')
FAST_METHODS = ('atsc', 'aekt', 'dkd', 'simkd', 'kd', 'kd_ls', 'dkd_ls', 'aekt_ls')
HELD_OUT = ('train_dataloader.dataset.indices=45000', 'val_dataloader.dataset.split=train',
            'val_dataloader.dataset.indices=-5000')


# Settings of the fast protocol's first pair: method, name of the row, options.
FAST_SETTINGS = (
    ('aekt', 'gamma0', 'model.distiller.gamma=0.0'),
    ('aekt', 'gamma025', 'model.distiller.gamma=0.25'),
    ('aekt', 'beta2', 'model.distiller.beta=2.0'),
    ('aekt', 'no_fc', 'model.distiller.with_fc=False'),
    ('aekt_ls', 'gamma1', 'model.distiller.gamma=1.0'),
    ('aekt_ls', 'gamma02', 'model.distiller.gamma=0.2'),
    ('simkd', 'align5', 'model.distiller.align_weight=5.0'),
    ('simkd', 'align10', 'model.distiller.align_weight=10.0'),
    ('atsc', 'align10', 'model.distiller.align_weight=10.0'),
    ('atsc', 'papers', 'model.teacher_lr_mult=1.0', 'model.distiller.anchor_min_dims=2'),
    ('atsc', 'start15', 'custom_hooks.0.start=15'))


class Suite(NamedTuple):
    """A table's trainings.

    Args:
        rows: Gives the rows for some seeds.
        environment: Gives the variables that the configs read, for the suite's folder.
        seeds: The default seeds.
        gpu: Refuse to start without a GPU.
        switches: Further arguments of ``tools/train.py``.
        held_out: Always score held-out images.
        workers: Rows that train at once on a GPU.
    """

    rows: Callable[[Sequence[int]], list[Row]]
    environment: Callable[[Path], dict[str, str]]
    seeds: Sequence[int]
    gpu: bool = False
    switches: tuple[str, ...] = ()
    held_out: bool = False
    workers: int = 1


def seeded(name: str, config: str, folder: str, seeds: Sequence[int], needs: Sequence[str] = ()) -> list[Row]:
    """A row for each seed; the folder of seed 0 has the plain name."""
    return [Row(f'{name}, seed {seed}', CONFIGS / config, f'{folder}_seed{seed}' if seed else folder, tuple(needs),
                (f'randomness.seed={seed}', )) for seed in seeds]


def seed_by_seed(groups: Iterable[list[Row]]) -> list[Row]:
    """The first seeds of all groups, then their second ones, so that an early stop leaves a full table."""
    return [row for rows in zip(*groups) for row in rows]


def digits(seeds: Sequence[int]) -> list[Row]:
    teachers = [Row(name, CONFIGS / 'demo' / f'{name}.py', name) for name in ('teacher_digits', 'teacher2_digits')]
    return teachers + seed_by_seed(
        seeded(name, f'demo/{name}_digits.py', f'{name}_digits', seeds,
               () if name == 'student' else [teacher.folder for teacher in teachers])
        for name in ('student', 'kd', 'aekt', 'simkd', 'atsc', 'atsc_multi'))


def cifar100_cpu(seeds: Sequence[int]) -> list[Row]:
    teachers = [Row('teacher', CONFIGS / 'short' / 'resnet20.py', 'short_resnet20'),
                Row('second teacher', CONFIGS / 'short' / 'resnet20.py', 'short_resnet20_seed1', (),
                    ('randomness.seed=1', ))]
    rows = seed_by_seed([seeded('student alone', 'short/resnet8.py', 'short_resnet8', seeds), *(
        seeded(method, f'short/{method}_resnet20_resnet8.py', f'short_{method}_resnet20_resnet8', seeds,
               ['short_resnet20'])
        for method in (*METHODS, 'atsc_aekt', 'simkd_defaults', 'aekt_defaults', 'atsc_defaults'))])
    rows += seeded('atsc, two teachers', 'short/atsc_two_resnet20_resnet8.py', 'short_atsc_two_resnet20_resnet8', seeds,
                   [teacher.folder for teacher in teachers])
    return teachers + rows


def cifar100(seeds: Sequence[int]) -> list[Row]:
    def alone(network: str, seeds: Sequence[int]) -> list[Row]:
        return seeded(network, f'teachers/{network}_cifar100.py', f'{network}_cifar100', seeds)

    def taught(folder: str, name: str, *teachers: str, seeds: Sequence[int] = seeds) -> list[Row]:
        return seeded(f'{folder} {name}', f'{folder}/{name}_cifar100.py', f'{folder.replace("/", "_")}_{name}_cifar100',
                      seeds, [f'{teacher}_cifar100' for teacher in teachers])

    rows = []
    for teacher, student in ('resnet110', 'resnet32'), ('resnet32x4', 'resnet8x4'):
        rows += alone(teacher, (0, )) + seed_by_seed([alone(student, seeds), *(
            taught(method, f'{teacher}_{student}', teacher) for method in METHODS)])
    rows += taught('atsc', 'resnet110_resnet32_batch512', 'resnet110', seeds=(0, ))
    rows += alone('resnet110x2', (0, )) + seed_by_seed(
        taught(f'{method}/multi', 'resnet32x4_resnet110x2_resnet8x4', 'resnet32x4', 'resnet110x2')
        for method in ('aekt', 'atsc'))
    rows += alone('wrn_40_2', (0, )) + seed_by_seed([alone('wrn_40_1', seeds), *(
        taught(method, 'wrn_40_2_wrn_40_1', 'wrn_40_2') for method in METHODS)])
    return rows


def cifar100_fast(seeds: Sequence[int]) -> list[Row]:
    """All methods on the first pair, then on the second, then two teachers and two methods; then the next seed."""
    def group(name: str) -> list[Row]:
        return seeded(name.replace('_', ' '), f'fast/{name}.py', f'fast_{name}', seeds)

    pairs = [('resnet32x4_resnet8x4', 'resnet8x4'), ('resnet110_resnet32', 'resnet32')]
    groups = []
    for pair, student in pairs:
        groups += [group(f'{FAST_METHODS[0]}_{pair}'), group(student)]
        groups += [group(f'{method}_{pair}') for method in FAST_METHODS[1:]]
    groups += [group('atsc_two_resnet32x4_resnet110_resnet8x4'), group('atsc_aekt_resnet32x4_resnet8x4')]
    return seed_by_seed(groups)


def cifar100_fast_settings(seeds: Sequence[int]) -> list[Row]:
    """The plain rows, then the settings that are compared with them."""
    pair = 'resnet32x4_resnet8x4'
    plain = [seeded(method, f'fast/{method}_{pair}.py', f'fast_{method}_{pair}', seeds) for method in FAST_METHODS]
    return seed_by_seed([*plain, *(
        [row._replace(options=(*row.options, *options)) for row in seeded(
            f'{method}, {name}', f'fast/{method}_{pair}.py', f'fast_{method}_{pair}_{name}', seeds)]
        for method, name, *options in FAST_SETTINGS)])


SUITES = {
    'digits': Suite(digits, lambda out: {'DEMO_TEACHER': str(out / 'teacher_digits'),
                                         'DEMO_TEACHER2': str(out / 'teacher2_digits')}, (0, )),
    'cifar100-cpu': Suite(cifar100_cpu, lambda out: {'MMKD_TEACHERS': str(out)}, (0, 1, 2)),
    'cifar100-fast': Suite(cifar100_fast, lambda out: {}, (0, 1, 2), switches=('--fast', ), workers=3),
    'cifar100-fast-settings': Suite(cifar100_fast_settings, lambda out: {}, (0, ), switches=('--fast', ), held_out=True,
                                    workers=3),
    'cifar100': Suite(cifar100, lambda out: {'MMKD_TEACHERS': str(out)}, (0, 1, 2), gpu=True)}


def chosen(rows: Sequence[Row], patterns: Sequence[str] | None) -> list[Row]:
    """The rows whose folders match, and those that they need."""
    if not patterns:
        return list(rows)
    folders = [row.folder for row in rows]
    for pattern in patterns:
        if not fnmatch.filter(folders, pattern):
            raise ValueError(f'--rows {pattern}: there is no such row; there are {", ".join(folders)}')
    wanted = {folder for pattern in patterns for folder in fnmatch.filter(folders, pattern)}
    wanted |= {need for row in rows if row.folder in wanted for need in row.needs}  # who teaches needs nobody
    return [row for row in rows if row.folder in wanted]


def main(argv: list[str] | None = None) -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('suite', metavar='SUITE', help=', '.join(SUITES))
    parser.add_argument('--out', type=Path, required=True, metavar='DIR')
    parser.add_argument('--budget', type=float, metavar='MINUTES', help='stop in time; default: when all is done')
    parser.add_argument('--seeds', type=int, nargs='+', help="default: the suite's")
    parser.add_argument('--rows', nargs='+', metavar='PATTERN', help="only rows whose folder matches, as 'atsc_*'")
    parser.add_argument('--held-out', action='store_true', help='score images that are held out of the training set')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE', help='for all rows')
    parser.add_argument('--workers', type=int,
                        help="trainings at once (default: one a core; with a GPU one, or cifar100-fast's three)")
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        suite = SUITES[check_choice('SUITE', args.suite, SUITES)]
        if suite.gpu and not torch.cuda.is_available():
            raise ValueError(f'{args.suite} needs a GPU, and there is none; cifar100-cpu is for the CPU')
        if suite.switches and not torch.cuda.is_available():
            print(f'{args.suite} is meant for a GPU, and there is none: it will take days', flush=True)
        check_number('--budget', args.budget, above=0, optional=True)
        workers, cores = args.workers, len(os.sched_getaffinity(0))
        if workers is None:
            workers = min(suite.workers, cores) if torch.cuda.is_available() else cores
        check_number('--workers', workers, 1, integer=True)
        out = args.out.resolve()
        rows = chosen(suite.rows(list(dict.fromkeys(args.seeds or suite.seeds))), args.rows)
        for word in args.cfg_options:
            if not cli.is_setting(word):
                raise ValueError(f'--cfg-options {word}: must be KEY=VALUE')
        if args.held_out and args.suite == 'digits':
            raise ValueError('--held-out is for the suites on CIFAR-100')
        options = (*(HELD_OUT if args.held_out or suite.held_out else ()), *args.cfg_options)
        rows = [row._replace(options=(*row.options, *options), switches=suite.switches) for row in rows]
        with Stop(args.budget and 60 * args.budget).by_signals() as stop:
            try:
                report(run_suite(rows, out, workers, stop, **suite.environment(out)), out)
            except Failed as failed:
                report(failed.results, out)
                raise


def report(results: Sequence[Result], out: Path) -> None:
    """Prints the table of the finished rows, and the names of the others."""
    done = [str(out / result.row.folder) for result in results if result.state == 'done']
    if done:
        compare([*done, '--out', str(out)])
    left = [f'{result.row.folder} ({result.state})' for result in results if result.state != 'done']
    if left:
        print(f'\nnot done: {", ".join(left)}; the same command goes on')


if __name__ == '__main__':
    main()
