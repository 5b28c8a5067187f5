"""Draws the logs of runs: losses, accuracies of student and teachers, the teachers' drift, the learning rate.

python tools/analysis/plot_run.py RUN [RUN ...] --out FILE.png

A run is a work directory or a published log. One run shows all losses and the drift of each stage; several runs have
one colour each and show the sums only.
"""
import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import mmkd_atsc  # noqa: F401
from mmkd_atsc import cli

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from analysis.runs import find_curve, is_training, read_scalars
from analysis.summary import run_names
from analysis.tables import picture_path, pyplot

Points = list[tuple[float, float]]
# A student's line is solid; its teachers' are told apart by their dashes.
DASHES = ('--', ':', '-.', (0, (6, 1, 1, 1, 1, 1)))


def epoch_length(scalars: list[dict]) -> float | None:
    """Iterations of an epoch, from the last logged line; None without epochs.

    >>> epoch_length([{'iter': 700, 'step': 700, 'epoch': 1}, {'iter': 186000, 'step': 186000, 'epoch': 240}])
    775.0
    """
    return max((line['step'] / line['epoch'] for line in scalars if is_training(line) and line.get('epoch')),
               default=None)


def training_curve(scalars: list[dict], key: str) -> Points:
    """A value of training's lines over the epochs; over the iterations where a run has no epochs."""
    length = epoch_length(scalars) or 1
    return [(step / length, value) for step, value in find_curve(scalars, key, training=True)]


def keys_of(scalars: list[dict], pattern: str, training: bool) -> list[str]:
    """The keys that match a pattern as a whole, in the order of the log."""
    keys = dict.fromkeys(key for line in scalars if is_training(line) == training for key in line)
    return [key for key in keys if re.fullmatch(pattern, key)]


def accuracy_curves(scalars: list[dict], metric: str) -> dict[str, Points]:
    """The validation metric by whose it is: '' for the student's."""
    owners = {key: key[:-len(metric)].rstrip('/') for key in keys_of(scalars, f'(.+/)?{re.escape(metric)}', False)}
    return {'' if owner == 'student' else owner: find_curve(scalars, key) for key, owner in owners.items()}


def curves_of(scalars: list[dict], metric: str, alone: bool) -> dict[str, dict[str, Points]]:
    """The lines of each panel by their names; ``alone``: with all losses and stages."""
    def of(pattern: str, unsaid: str = '') -> dict[str, Points]:
        return {key.replace(unsaid, ''): training_curve(scalars, key) for key in keys_of(scalars, pattern, True)}

    return {'loss': of(r'(.*\.)?loss\w*') if alone else of('loss', 'loss'),
            metric: accuracy_curves(scalars, metric),
            'drift  ‖θ − θ*‖ / ‖θ*‖': of('.+/drift([./].+)?' if alone else '.+/drift', '/drift'),
            'learning rate': of('lr', 'lr')}


def plot_runs(runs: dict[str, list[dict]], path: Path, metric: str = 'accuracy/top1') -> None:
    """Draws runs, given by their names and logged lines, into a file."""
    plot, alone = pyplot(), len(runs) == 1
    panels = [curves_of(scalars, metric, alone) for scalars in runs.values()]
    units = {'epoch' if epoch_length(scalars) else 'iteration' for scalars in runs.values()}
    figure, grid = plot.subplots(2, 2, figsize=(12, 7.5), sharex=units == {'epoch'}, layout='constrained')
    for axes, title in zip(grid.flat, panels[0]):
        lines = [(number, run, name, points) for number, (run, panel) in enumerate(zip(runs, panels))
                 for name, points in panel[title].items()]
        for place, (number, run, name, points) in enumerate(lines):
            dash = '-' if alone or not name else DASHES[list(panels[number][title]).index(name) % len(DASHES)]
            label = name or ('student' if title == metric else run) if alone else ' '.join(filter(None, [run, name]))
            axes.plot(*zip(*points), color=f'C{place if alone else number}', linestyle=dash, linewidth=1.3,
                      marker='.' if len(points) < 60 else None, label=label)
        axes.set(title=title, xlabel=' or '.join(sorted(units)))
        axes.tick_params(labelbottom=True)
        axes.grid(alpha=0.3)
        if title == 'loss' and _is_positive(lines):
            axes.set_yscale('log')
        if not lines:
            axes.text(0.5, 0.5, 'not in the log', transform=axes.transAxes, ha='center', color='0.5')
        elif len(lines) <= 16 and (len(lines) > 1 or not alone):
            axes.legend(fontsize=8)
    if alone:
        figure.suptitle(next(iter(runs)))
    figure.savefig(path, dpi=100)
    plot.close(figure)


def _is_positive(lines: Iterable[tuple]) -> bool:
    return all(value > 0 for *_, points in lines for _, value in points)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', metavar='RUN', help='work directory, or published log')
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='picture: .png, .svg, .pdf')
    parser.add_argument('--metric', default='accuracy/top1', help='validation metric (default: accuracy/top1)')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        runs = {name: read_scalars(run) for run, name in zip(args.runs, run_names(args.runs))}
        plot_runs(runs, picture_path('--out', args.out), args.metric)
        print(args.out)


if __name__ == '__main__':
    main()
