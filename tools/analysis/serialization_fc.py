"""What AEKT's serialization layer has learned: its weights as a heat map, and the classes that one class listens to.

python tools/analysis/serialization_fc.py work_dirs/RUN/epoch_240.pth --class bear --top 20 --out work_dirs/fc

Row c of the matrix makes output c out of all the student's logits. Class names come from the checkpoint's own metadata,
from --classes (a file with a name a line), or from MMPretrain for 10, 100 and 1000 classes of CIFAR and ImageNet with
--classes cifar10, cifar100 or imagenet; else classes are numbers.
"""
import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mmkd_atsc import cli
from mmkd_atsc.checkpoints.read import read_checkpoint
from mmkd_atsc.errors.checks import check_number, nearest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from analysis.tables import pyplot, write_csv

FC_KEY = re.compile(r'(^|\.)connectors\.[^.]+\.fc\.weight$')
KNOWN_CLASSES = {'cifar10': 'CIFAR10_CATEGORIES', 'cifar100': 'CIFAR100_CATEGORIES', 'imagenet': 'IMAGENET_CATEGORIES'}


class Weight(NamedTuple):
    rank: int
    input_class: int
    value: float


def is_square(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() == 2 and value.shape[0] == value.shape[1]


def find_weight(content: Mapping, key: str | None) -> tuple[str, Tensor]:
    """The layer's key and matrix; ``key`` may be the end of one."""
    weights = content.get('state_dict', content)
    square = [name for name, value in weights.items() if is_square(value)]
    found = [name for name in square if (name.endswith(key) if key else FC_KEY.search(name))]
    if key in found:
        found = [key]
    if len(found) == 1:
        return found[0], weights[found[0]].float()
    wanted = f'--key {key}' if key else '*.connectors.*.fc.weight'
    if found:
        raise ValueError(f'there are {len(found)} layers for {wanted}, choose one with --key: {", ".join(found)}')
    others = f'; its square matrices: {", ".join(square[:10])}' if square else ' and no square matrix at all'
    raise ValueError(f'the checkpoint has no square matrix {wanted}{others}')


def class_names(content: Mapping, source: str | None, num_classes: int) -> list[str]:
    if source in KNOWN_CLASSES:
        from mmpretrain.datasets import categories
        names = list(getattr(categories, KNOWN_CLASSES[source]))
    elif source:
        if not Path(source).is_file():
            raise FileNotFoundError(f'--classes {source}: no such file, and not one of {", ".join(KNOWN_CLASSES)}')
        names = Path(source).read_text(encoding='utf-8').split('\n')
        names = [name.strip() for name in names if name.strip()]
    else:
        names = (content.get('meta') or {}).get('dataset_meta') or {}
        names = list(names.get('classes') or [str(number) for number in range(num_classes)])
    if len(names) != num_classes:
        raise ValueError(f'there are {len(names)} class names for a layer of {num_classes} classes')
    return [str(name) for name in names]


def class_index(name: str, names: list[str]) -> int:
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise ValueError(f'--class {name} is no class name and no number from 0 to {len(names) - 1}{nearest(name, names)}')


def largest_weights(row: Tensor, top: int) -> list[Weight]:
    """The ``top`` weights of one output, the largest absolute value first."""
    order = row.abs().sort(descending=True, stable=True).indices[:top]
    return [Weight(rank, index, row[index].item()) for rank, index in enumerate(order.tolist(), start=1)]


def draw_matrix(path: Path, matrix: Tensor, names: list[str]) -> None:
    """Diagonal and the rest have a colour scale each: the diagonal begins at 1 and would drown the others, at 0."""
    size = len(names)
    off_diagonal = matrix.clone().fill_diagonal_(float('nan'))
    bound = max(off_diagonal.nan_to_num(0).abs().max().item(), 1e-12)
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(11.5, 8), width_ratios=[4, 1], layout='constrained')
    colours = pyplot().get_cmap('RdBu_r').with_extremes(bad='0.85')
    image = left.imshow(off_diagonal, cmap=colours, vmin=-bound, vmax=bound, interpolation='nearest')
    left.set_title('weights between classes (the diagonal is left out)', fontsize=11)
    left.set_xlabel("input: the student's logit")
    left.set_ylabel("output: the logit that meets the teacher's")
    if size <= 30:
        left.set_xticks(range(size), names, rotation=90, fontsize=8)
        left.set_yticks(range(size), names, fontsize=8)
    figure.colorbar(image, ax=left, shrink=0.75, pad=0.02)
    right.hist(matrix.diagonal().tolist(), bins=min(30, max(5, size // 3)), color='tab:blue')
    right.set_title('the diagonal', fontsize=11)
    right.set_xlabel('weight (1 at the start)')
    right.set_ylabel('classes')
    right.spines[['top', 'right']].set_visible(False)
    figure.savefig(path, dpi=150)
    pyplot().close(figure)


def draw_class(path: Path, output_class: str, weights: list[Weight], names: list[str]) -> None:
    figure, axes = pyplot().subplots(figsize=(7.5, 1.4 + 0.27 * len(weights)), layout='constrained')
    values = [weight.value for weight in weights]
    labels = [names[weight.input_class] for weight in weights]
    bars = axes.barh(range(len(weights)), values, color=['tab:red' if value > 0 else 'tab:blue' for value in values])
    axes.bar_label(bars, [f'{value:.3g}' for value in values], padding=3, fontsize=8)
    axes.set_yticks(range(len(weights)), labels, fontsize=9)
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.01)
    axes.axvline(0, color='0.3', linewidth=0.8)
    axes.set_xlabel('weight')
    axes.set_title(f'What the output "{output_class}" is made of: the {len(weights)} largest weights', fontsize=11)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.tick_params(axis='y', length=0)
    figure.savefig(path, dpi=150)
    pyplot().close(figure)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='a training checkpoint of AEKT (an exported student has no such layer)')
    parser.add_argument('--class', dest='class_name', metavar='NAME_OR_INDEX', help='also look at one output')
    parser.add_argument('--top', type=int, default=20, help='how many of its weights (default: 20)')
    parser.add_argument('--key', help='the key of the weight, or its end, where there are several')
    parser.add_argument('--classes', metavar='FILE', help='class names, one a line; or cifar10, cifar100, imagenet')
    parser.add_argument('--out', default='work_dirs/serialization_fc', help='folder for pictures and tables')
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        check_number('--top', args.top, low=1, integer=True)
        content = read_checkpoint(args.checkpoint)
        key, matrix = find_weight(content, args.key)
        names = class_names(content, args.classes, len(matrix))
        chosen = None if args.class_name is None else class_index(args.class_name, names)
        out = Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        write_csv(out / 'serialization_fc.csv', ('output_class', *names),
                  ((name, *(f'{value:.9g}' for value in row)) for name, row in zip(names, matrix.tolist())))
        draw_matrix(out / 'serialization_fc.png', matrix, names)
        print(f'{key}: {len(matrix)} classes; wrote {out / "serialization_fc.png"} and .csv')
        if chosen is not None:
            weights = largest_weights(matrix[chosen], args.top)
            stem = f'serialization_fc_class{chosen}'
            write_csv(out / f'{stem}.csv', ('output_class', 'rank', 'input_index', 'input_class', 'weight'),
                      ((names[chosen], w.rank, w.input_class, names[w.input_class], f'{w.value:.9g}') for w in weights))
            draw_class(out / f'{stem}.png', names[chosen], weights, names)
            print(f'output {chosen} ({names[chosen]}): wrote {out / stem}.png and .csv')


if __name__ == '__main__':
    main()
