"""How hard each loss pulls at the target class: d loss / d u_t over the student's confidence, as picture and table.

python tools/analysis/aekt_gradient.py --tau 4 --out work_dirs/aekt_gradient

Rows are the target forms of AEKT, columns the teacher's confidence, curves the bounds ``max_ratio``, beside KD and DKD.
The numbers are autograd's, of the losses that train: AEKTLoss, and MMRazor's KLDivergence and DKDLoss.
"""
import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

import mmkd_atsc  # noqa: F401  makes mmrazor importable
from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.models.losses import AEKTLoss
from mmkd_atsc.models.losses.aekt_loss import TARGET_FORMS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from analysis.tables import pyplot, write_csv

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
STUDENT_CONFIDENCES = torch.linspace(0.01, 0.99, 197, dtype=torch.float64)
NUM_CLASSES = 100  # any number gives the same curves: the pull at u_t depends on the confidences alone
COLUMNS = ('loss', 'target_form', 'max_ratio', 'tau', 'teacher_confidence', 'student_confidence', 'gradient')


class Curve(NamedTuple):
    loss: str
    target_form: str  # empty for KD and DKD
    max_ratio: str  # 'none' for the bare ratio, empty for KD and DKD
    gradients: dict[float, Tensor]  # by the teacher's confidence, over STUDENT_CONFIDENCES


def logits_of(confidence: Tensor, tau: float) -> Tensor:
    """Logits (N, C) whose softmax over tau gives class 0 the confidence, and all others the same share of the rest."""
    logits = confidence.new_zeros(len(confidence), NUM_CLASSES)
    logits[:, 0] = tau * (torch.logit(confidence) + math.log(NUM_CLASSES - 1))
    return logits


def gradient_on_target(loss: Loss, teacher_confidence: float, tau: float) -> Tensor:
    """d loss / d u_t of one sample at each of STUDENT_CONFIDENCES; the loss must sum over samples."""
    student = logits_of(STUDENT_CONFIDENCES, tau).requires_grad_()
    teacher = logits_of(torch.full_like(STUDENT_CONFIDENCES, teacher_confidence), tau)
    labels = torch.zeros(len(student), dtype=torch.long)
    gradient, = torch.autograd.grad(loss(student, teacher, labels), student)
    return gradient[:, 0]


def make_curves(tau: float, teacher_confidences: list[float], max_ratios: list[float | None]) -> list[Curve]:
    from mmrazor.models.losses import DKDLoss, KLDivergence
    kd = KLDivergence(tau=tau, reduction='sum')
    losses = [('KD', '', '', lambda student, teacher, labels: kd(student, teacher)),
              ('DKD', '', '', DKDLoss(tau=tau, alpha=1.0, beta=8.0, reduction='sum'))]
    for form in TARGET_FORMS:
        for ratio in max_ratios:
            loss = AEKTLoss(tau=tau, target_form=form, max_ratio=ratio, reduction='sum')
            losses.append(('AEKT', form, 'none' if ratio is None else f'{ratio:g}', loss))
    return [Curve(*names, {q: gradient_on_target(loss, q, tau) for q in teacher_confidences})
            for *names, loss in losses]


def write_table(path: Path, curves: list[Curve], tau: float) -> None:
    write_csv(path, COLUMNS, (
        (*curve[:3], tau, teacher, f'{student:.4f}', f'{gradient:.9g}') for curve in curves
        for teacher, gradients in curve.gradients.items()
        for student, gradient in zip(STUDENT_CONFIDENCES.tolist(), gradients.tolist())))


def line_style(curve: Curve, bounds: list[str]) -> dict:
    if curve.loss == 'KD':
        return dict(label='KD', color='tab:red', linewidth=3.5, alpha=0.45)
    if curve.loss == 'DKD':  # on the target logit DKD's gradient is KD's: both lines have to show
        return dict(label='DKD', color='black', linewidth=1.2, linestyle=(0, (4, 2)))
    rank = bounds.index(curve.max_ratio)
    bound = 'bare ratio' if curve.max_ratio == 'none' else f'max_ratio {curve.max_ratio}'
    # The first bound on top: the others are seen to branch off where they set in.
    return dict(label=f'AEKT, {bound}', color=f'C{(0, 1, 2, 4, 5, 6, 8, 9)[rank % 8]}', linewidth=1.8, zorder=9 - rank)


def draw(path: Path, curves: list[Curve], tau: float) -> None:
    plot = pyplot()
    teachers = list(curves[0].gradients)
    bounds = list(dict.fromkeys(curve.max_ratio for curve in curves if curve.loss == 'AEKT'))
    figure, grid = plot.subplots(len(TARGET_FORMS), len(teachers), sharex=True, sharey=True, squeeze=False,
                                figsize=(1.2 + 3.3 * len(teachers), 7.2), layout='constrained')
    for row, form in enumerate(TARGET_FORMS):
        for axes, teacher in zip(grid[row], teachers):
            axes.axhline(0, color='0.75', linewidth=0.8, zorder=0)
            axes.axvline(teacher, color='0.75', linewidth=0.8, zorder=0)
            for curve in curves:
                if curve.target_form in ('', form):
                    axes.plot(STUDENT_CONFIDENCES, curve.gradients[teacher], **line_style(curve, bounds))
            # Linear where KD and the bounds are, logarithmic for the bare ratio, which pulls a hundred times as hard.
            axes.set_yscale('asinh', linear_width=1.5 * tau)
            axes.set_xlim(0, 1)
            axes.set_title(f'{form},  teacher {teacher:g}', fontsize=10)
            axes.spines[['top', 'right']].set_visible(False)
    ticks = [tau * step for step in (-100, -30, -10, -5, -2, -1, 0, 1)]
    grid[0][0].set_yticks(ticks, [f'{tick:g}' for tick in ticks])
    grid[0][0].set_yticks([], minor=True)
    figure.suptitle(f'Pull at the target class at temperature {tau:g}: below 0 the student grows more confident')
    for axes in grid[-1]:
        axes.set_xlabel('student confidence  $p^S_t$')
    for axes in grid[:, 0]:
        axes.set_ylabel(r'$\partial\,\mathrm{loss}\,/\,\partial u_t$', fontsize=11)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc='outside lower center', ncol=len(labels), frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)
    plot.close(figure)


def parse_bound(text: str) -> float | None:
    try:
        return None if text.lower() == 'none' else check_number('--max-ratios', float(text), above=0)
    except ValueError:
        raise ValueError(f'--max-ratios {text} must be a number greater than 0, or none for the bare ratio') from None


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--tau', type=float, default=4.0, help='temperature (default: 4)')
    parser.add_argument('--teacher', type=float, nargs='+', default=[0.3, 0.6, 0.9], help="the teacher's confidences")
    parser.add_argument('--max-ratios', nargs='+', default=['none', '5', '2', '1'], help='bounds; none: the bare ratio')
    parser.add_argument('--out', default='work_dirs/aekt_gradient', help='folder for aekt_gradient.png and .csv')
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        check_number('--tau', args.tau, above=0)
        for confidence in args.teacher:
            check_number('--teacher', confidence, low=0.001, high=0.999)
        curves = make_curves(args.tau, args.teacher, [parse_bound(text) for text in args.max_ratios])
        out = Path(args.out)
        out.mkdir(parents=True, exist_ok=True)
        write_table(out / 'aekt_gradient.csv', curves, args.tau)
        draw(out / 'aekt_gradient.png', curves, args.tau)
        print(f'wrote {out / "aekt_gradient.png"} and {out / "aekt_gradient.csv"}')


if __name__ == '__main__':
    main()
