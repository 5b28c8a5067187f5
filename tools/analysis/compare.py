"""Compares runs: a table with a line for each config, its seeds averaged.

python tools/analysis/compare.py RUN [RUN ...] [--out DIR] [--publish DIR] [--pages README.md ...]

A run is a work directory, of which the last training counts, or a published log. Accuracies are means and standard
deviations over the runs of a config with different seeds. Images a second and hours are those of the training steps.
--out writes DIR/compare.md and DIR/compare.csv. --publish writes each run's log to DIR/<name>.json.gz, to be committed.
--pages updates the lines of Markdown tables that link to the configs, with links to the published logs.
"""
import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import mmkd_atsc  # noqa: F401
from mmkd_atsc import cli

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from analysis.pages import ConfigResult, updated
from analysis.runs import PUBLISHED, publish_log
from analysis.summary import NO_TEACHER, Run, deployed_parameters, read_run, run_names
from analysis.tables import markdown, write_csv

COLUMNS = ('method', 'teacher → student', 'seeds', 'epochs', 'last %', 'best %', 'deployed parameters', 'images/s',
           'hours', 'environment', 'config')


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs of each config by their seeds, in the order in which the configs first occur."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.identity, []).append(run)
    return [sorted(group, key=lambda run: run.seed or 0) for group in groups.values()]


def method_in(run: Run, runs: Sequence[Run]) -> str:
    """The run's method; one without a teacher is 'student alone' or 'teacher' by the other runs."""
    if run.method != NO_TEACHER:
        return run.method
    others = [other for other in runs if other.teachers]
    if run.student in [other.student for other in others]:
        return 'student alone'
    return 'teacher' if any(run.student in other.teachers for other in others) else NO_TEACHER


def mean(group: Sequence[Run], field: str, form: str, deviation: bool = False) -> str:
    """The mean of a number over the runs that have it, and its standard deviation; '-' if none has it."""
    values = [value for value in (getattr(run, field) for run in group) if value is not None]
    if not values:
        return '-'
    text = format(statistics.mean(values), form)
    return f'{text} ± {format(statistics.stdev(values), form)}' if deviation and len(values) > 1 else text


def epochs_of(group: Sequence[Run]) -> str:
    """How far the runs are, and how far they go: '240', '12 to 240 of 240', '500 of 1000 iterations'."""
    done, goal = {run.done or 0 for run in group}, group[0].goal
    reached = ' to '.join(map(str, sorted({min(done), max(done)})))
    text = reached if goal is None or reached == str(goal) else f'{reached} of {goal}'
    return text if group[0].unit == 'epochs' else f'{text} {group[0].unit}'


def config_of(group: Sequence[Run], runs: Sequence[Run]) -> str:
    """The runs' config; with the first run's name where the same config was also trained with other options."""
    def line(run: Run) -> tuple:
        return run.method, run.pair, run.config_name

    first = group[0]
    others = any(line(run) == line(first) and run.identity != first.identity for run in runs)
    return f'{first.config_name} ({first.name})' if others else first.config_name


def cells_of(group: Sequence[Run], runs: Sequence[Run]) -> list[str]:
    """The cells of COLUMNS for the runs of a config."""
    parameters = deployed_parameters(group[0].config)
    return [method_in(group[0], runs), group[0].pair, ', '.join(str(run.seed) for run in group), epochs_of(group),
            mean(group, 'last', '.2f', True), mean(group, 'best', '.2f', True),
            '-' if parameters is None else f'{parameters:,}', mean(group, 'images_per_second', ',.0f'),
            mean(group, 'hours', '.3g'), ' / '.join(dict.fromkeys(filter(None, (run.environment for run in group)))),
            config_of(group, runs)]


def new_pages(pages: Sequence[Path], groups: Sequence[list[Run]], cells: Sequence[list],
              files: dict[str, Path]) -> dict[Path, str]:
    """The new texts of ``pages``; prints the configs for which a page has no line.

    Args:
        pages: Markdown files.
        groups: The runs of each line of the comparison.
        cells: These lines.
        files: Where each run's log is, or will be, published: in a folder beside its config.
    """
    results: dict[Path, ConfigResult] = {}
    for group, row in zip(groups, cells):
        for run in group:
            if run.done != run.goal:
                raise ValueError(f'--pages: {run.name} is not done, {epochs_of([run])}')
        logs = [(run.seed, files[run.name].resolve()) for run in group]
        config = logs[0][1].parent.parent / f'{group[0].config_name}.py'
        if not config.is_file():
            raise FileNotFoundError(f'--pages: {logs[0][1]} must lie in a folder beside its config, and there is no '
                                    f'{config}; publish it elsewhere')
        if config in results:
            raise ValueError(f'--pages: {config} was trained in several ways, and a line tells of one')
        results[config] = ConfigResult(dict(zip(COLUMNS, row)), logs)
    texts = {}
    for page in pages:
        if not page.is_file():
            raise FileNotFoundError(f'--pages {page}: no such file')
        text = page.read_bytes().decode()  # as it is: Python would change the ends of its lines
        texts[page], missing = updated(page, text, results)
        if missing:
            print(f'{page}: has no line for {", ".join(config.name for config in missing)}')
    return texts


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', metavar='RUN', help='work directory, or published log')
    parser.add_argument('--out', type=Path, metavar='DIR', help='also write compare.md and compare.csv there')
    parser.add_argument('--publish', type=Path, metavar='DIR', help="also write each run's log to DIR/<name>.json.gz")
    parser.add_argument('--pages', type=Path, nargs='+', default=[], metavar='FILE',
                        help='also bring the tables in these Markdown files up to date')
    parser.add_argument('--metric', default='accuracy/top1', help='default: accuracy/top1')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        names = run_names(args.runs)
        runs = [read_run(run, name, args.metric) for run, name in zip(args.runs, names)]
        groups = grouped(runs)
        cells = [cells_of(group, runs) for group in groups]
        text = markdown(COLUMNS, cells, left=('method', 'teacher → student', 'environment', 'config'))
        if args.out:
            args.out.mkdir(parents=True, exist_ok=True)
            (args.out / 'compare.md').write_text(text + '\n', encoding='utf-8')
            write_csv(args.out / 'compare.csv', COLUMNS, cells)
            text += f'\n\n{args.out / "compare.md"}\n{args.out / "compare.csv"}'
        print(text)
        # Published logs lie side by side, whatever the folders that the runs are told by.
        files = {name: args.publish / f'{name.replace("/", "_")}{PUBLISHED}' if args.publish else Path(run)
                 for run, name in zip(args.runs, names)}
        pages = new_pages(args.pages, groups, cells, files) if args.pages else {}
        for run, name in zip(args.runs, names) if args.publish else ():
            print(publish_log(run, files[name]))
        for page, new in pages.items():
            page.write_bytes(new.encode())
            print(f'{page}: is up to date')


if __name__ == '__main__':
    main()
