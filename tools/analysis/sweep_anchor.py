"""Trains an ATSC config once for each anchor weight and draws what the weight does (the paper's figure 3).

python tools/analysis/sweep_anchor.py CONFIG --weights 0 0.1 1 10 --out DIR [--cfg-options KEY=VALUE ...]

Writes DIR/sweep.csv and DIR/sweep.png: accuracy of the student and of the adapted teacher, and the teacher's drift.
Runs that are finished are not trained again, one that was interrupted goes on.
"""
import argparse
import sys
from pathlib import Path
from typing import Dict, List, Optional

import mmkd_atsc  # noqa: F401
from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_number

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from analysis.runs import find_metric, read_scalars
from analysis.tables import markdown, pyplot, write_csv
from analysis.training import Stop, run_training

FIELDS = ('anchor_weight', 'student', 'teacher', 'drift')


def measure(config: str, weight: float, work_dir: Path, options: List[str]) -> Dict[str, float]:
    """The last accuracies and the last drift of the run with this weight."""
    marker, wanted = work_dir / 'finished', ' '.join([config, *options])
    if marker.is_file() and marker.read_text() != wanted:
        raise ValueError(f'{work_dir} is a finished run of something else ({marker.read_text()}); '
                         'give another --out, or delete it')
    if not marker.is_file():
        print(f'training with anchor_weight={weight:g} ...', flush=True)
        options = [f'model.distiller.anchor_weight={weight}', 'val_cfg.teachers=True', *options]
        with Stop().by_signals() as stop:
            run_training(config, work_dir, stop, options, resume=work_dir.is_dir())
        marker.write_text(wanted)
    logged = read_scalars(work_dir)
    drift = [line['teacher/drift'] for line in logged if 'teacher/drift' in line]
    teacher = [line['teacher/accuracy/top1'] for line in logged if 'teacher/accuracy/top1' in line]
    if not drift or not teacher:
        raise ValueError(f'{config}: its log has no teacher/drift or teacher accuracy; '
                         'it needs one adapting teacher and an AdaptiveTeacherHook')
    return dict(zip(FIELDS, (weight, find_metric(logged, 'accuracy/top1')[-1][1], teacher[-1], drift[-1])))


def plot(rows: List[Dict[str, float]], path: Path) -> None:
    figure, axes = pyplot().subplots(figsize=(6.5, 4), layout='constrained')
    places, labels = range(len(rows)), [f'{row["anchor_weight"]:g}' for row in rows]
    for name, marker in (('student', 'o'), ('teacher', 's')):
        axes.plot(places, [row[name] for row in rows], marker=marker, label=f'{name} accuracy')
    axes.set(xlabel='anchor weight', ylabel='test accuracy, %', xticks=places, xticklabels=labels)
    axes.grid(alpha=0.3)
    drift = axes.twinx()
    drift.plot(places, [row['drift'] for row in rows], color='0.45', linestyle='--', marker='x', label='drift')
    drift.set(ylabel='‖θ − θ*‖ / ‖θ*‖', ylim=(0, None))
    lines = axes.get_lines() + drift.get_lines()
    axes.legend(lines, [line.get_label() for line in lines])
    figure.savefig(path, dpi=120)


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config')
    parser.add_argument('--weights', type=float, nargs='+', default=[0, 0.1, 1, 10])
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        cli.load_config(args.config)
        out, weights = args.out.resolve(), sorted({check_number('--weights', weight, 0) for weight in args.weights})
        rows = [measure(args.config, weight, out / f'anchor_{weight:g}', args.cfg_options) for weight in weights]
        write_csv(out / 'sweep.csv', FIELDS, (row.values() for row in rows))
        plot(rows, out / 'sweep.png')
    print(markdown(FIELDS, ([f'{row["anchor_weight"]:g}', f'{row["student"]:.2f}', f'{row["teacher"]:.2f}',
                             f'{row["drift"]:.4f}'] for row in rows)))
    print(f'\n{out / "sweep.png"}\n{out / "sweep.csv"}')


if __name__ == '__main__':
    main()
