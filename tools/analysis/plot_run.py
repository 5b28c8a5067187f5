"""Draws what runs logged: losses, accuracies of student and teachers, the teachers' drift, the learning rate.

python tools/analysis/plot_run.py WORK_DIR [WORK_DIR ...] --out FILE.png

A folder is a work directory or a published log. One run shows its single losses and the drift of each stage; several
have a colour each and show their sums only.
"""
import argparse
from pathlib import Path
from typing import List, Optional

import mmkd_atsc  # noqa: F401
from mmkd_atsc import cli
from mmkd_atsc.analysis.pictures import plot_runs
from mmkd_atsc.analysis.runs import read_scalars
from mmkd_atsc.analysis.summary import run_names
from mmkd_atsc.analysis.tables import picture_path


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', metavar='WORK_DIR', help='work directory, or folder of a published log')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='picture: .png, .svg, .pdf')
    parser.add_argument('--metric', default='accuracy/top1', help='validation metric (default: accuracy/top1)')
    return parser.parse_args(argv)


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        runs = {name: read_scalars(folder) for folder, name in zip(args.runs, run_names(args.runs))}
        plot_runs(runs, picture_path('--out', args.out), args.metric)
        print(args.out)


if __name__ == '__main__':
    main()
