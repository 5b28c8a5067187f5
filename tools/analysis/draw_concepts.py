"""Draws what is in a step of each method: the networks, what is recorded, and the losses by their names in the log.

python tools/analysis/draw_concepts.py --out docs

DIR gets concepts_atsc.svg and concepts_aekt.svg. A box has the names of the config, the code and the log.
"""
import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import mmkd_atsc  # noqa: F401
from mmkd_atsc import cli

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from analysis.tables import pyplot

# Face and edge of each kind of box, and what the legend says of it.
STYLES = {'data': ('#eeeeee', '-', ''), 'teacher': ('#fbe3c4', '-', "the teacher's"),
          'student': ('#cfe2f7', '-', "the student's, deployed"), 'training': ('#cfe2f7', '--', 'learns, not deployed'),
          'loss': ('#f6cfd3', '-', 'loss, as the log names it')}


class Box(NamedTuple):
    """A box by its middle; ``text`` has a line for each of its names."""

    x: float
    y: float
    kind: str
    text: str
    width: float = 2.0
    height: float = 0.95


class Picture(NamedTuple):
    """A method's boxes by name, and its arrows: from, to, and the words at their middle."""

    boxes: dict[str, Box]
    arrows: list[tuple[str, str, str]]


ATSC = Picture(
    dict(
        images=Box(0.9, 2.5, 'data', 'images', 1.4, 3.75),
        anchor=Box(6.2, 5.5, 'loss', 'distill.loss_anchor\nTeacherAnchorLoss', 3.0),
        encoder=Box(6.2, 3.9, 'teacher', "the teacher's\nencoder", 3.0),
        classifier=Box(9.85, 3.9, 'teacher', "the teacher's\nclassifier", 3.2),
        teacher_loss=Box(12.9, 3.9, 'loss', 'teacher.loss', 1.9),
        align=Box(6.2, 2.5, 'loss', 'distill.loss_align\nFeatureAlignLoss', 3.0),
        backbone=Box(3.2, 1.1, 'student', "the student's\nbackbone", 2.0),
        neck=Box(6.2, 1.1, 'student', 'neck\nFeatureProjector', 3.0),
        head=Box(9.85, 1.1, 'student', 'head\nSharedClassifierHead', 3.2),
        student_loss=Box(12.9, 1.1, 'loss', 'student.loss', 1.9)),
    [('images', 'encoder', ''), ('images', 'backbone', ''), ('anchor', 'encoder', ''), ('encoder', 'classifier', ''),
     ('classifier', 'teacher_loss', ''), ('encoder', 'align', ''), ('backbone', 'neck', ''), ('neck', 'head', ''),
     ('neck', 'align', ''), ('classifier', 'head', 'the same modules'), ('head', 'student_loss', '')])
AEKT = Picture(
    dict(
        images=Box(0.9, 2.5, 'data', 'images', 1.4, 3.75),
        teacher=Box(4.1, 3.9, 'teacher', 'the teacher, frozen\nbackbone, neck, head', 3.4),
        student=Box(4.1, 1.1, 'student', 'the student\nbackbone, neck, head', 3.4),
        logits=Box(8.3, 1.1, 'data', 'its logits', 2.6),
        fc=Box(8.3, 2.5, 'training', 'connectors.fc\nSerializationFC', 2.6),
        aekt=Box(12.2, 3.2, 'loss', 'distill.loss_aekt\nAEKTLoss', 2.8, 2.35),
        student_loss=Box(12.2, 1.1, 'loss', 'student.loss', 2.8)),
    [('images', 'teacher', ''), ('images', 'student', ''), ('teacher', 'aekt', 'logits'), ('student', 'logits', ''),
     ('logits', 'fc', ''), ('logits', 'student_loss', ''), ('fc', 'aekt', '')])
PICTURES = dict(atsc=ATSC, aekt=AEKT)


def ends(tail: Box, tip: Box) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a straight arrow between two boxes that lie side by side, or one above the other, begins and ends."""
    low, high = sorted((tail, tip), key=lambda box: box.height)
    if abs(tail.y - tip.y) < high.height / 2:
        sign = 1 if tip.x > tail.x else -1
        return (tail.x + sign * tail.width / 2, low.y), (tip.x - sign * tip.width / 2, low.y)
    sign = 1 if tip.y > tail.y else -1
    return (tail.x, tail.y + sign * tail.height / 2), (tail.x, tip.y - sign * tip.height / 2)


def draw(picture: Picture, path: Path) -> None:
    """Draws a picture; its text stays text, so that the file depends on no font."""
    plot = pyplot()
    with plot.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': 'mmkd_atsc', 'font.size': 17,
                          'font.family': ['DejaVu Sans', 'sans-serif']}):
        top = max(box.y + box.height / 2 for box in picture.boxes.values())
        figure = plot.figure(figsize=(14, top + 1.0))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, 14), ylim=(-0.8, top + 0.2))
        axes.axis('off')
        for start, end, words in picture.arrows:
            tail, tip = ends(picture.boxes[start], picture.boxes[end])
            axes.annotate('', tip, tail, arrowprops=dict(arrowstyle='-|>', color='0.25', linewidth=1.8, shrinkA=0,
                                                         shrinkB=0, mutation_scale=20))
            axes.text((tail[0] + tip[0]) / 2, (tail[1] + tip[1]) / 2, words, ha='center', va='center', color='0.25',
                      bbox=dict(facecolor='white', edgecolor='none', pad=2) if words else None)
        kinds = [kind for kind in STYLES if any(box.kind == kind != 'data' for box in picture.boxes.values())]
        marks = {kind: Box(0.5 + place * 13.9 / len(kinds), -0.4, kind, '', 0.5, 0.35)
                 for place, kind in enumerate(kinds)}
        for box in (*picture.boxes.values(), *marks.values()):
            face, edge, _ = STYLES[box.kind]
            axes.add_patch(plot.Rectangle((box.x - box.width / 2, box.y - box.height / 2), box.width, box.height,
                                          facecolor=face, edgecolor='0.25', linestyle=edge, linewidth=1.6))
            axes.text(box.x, box.y, box.text, ha='center', va='center')
        for kind, mark in marks.items():
            axes.text(mark.x + 0.35, mark.y, STYLES[kind][2], va='center', fontsize=14)
        figure.savefig(path, facecolor='white', metadata={'Date': None} if path.suffix == '.svg' else None)
        plot.close(figure)


def main(argv: list[str] | None = None) -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='where to write')
    out = parser.parse_args(argv).out
    with cli.one_line_errors():
        out.mkdir(parents=True, exist_ok=True)
        for name, picture in PICTURES.items():
            path = out / f'concepts_{name}.svg'
            draw(picture, path)
            print(path)


if __name__ == '__main__':
    main()
