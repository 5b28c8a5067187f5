"""Where a distilled student answers as its teachers do: accuracy and agreement by class, differences of confusions.

python tools/analysis/agreement.py CONFIG CHECKPOINT [--out DIR]

Scores student and teachers on the config's test data in one pass. Writes DIR/agreement_classes.csv (a line a class),
DIR/agreement_confusions.csv (a line for each confusion that the student makes more or less often than a teacher, the
largest difference first) and DIR/agreement.png. The teachers are those in the checkpoint, adapted if they adapted.
"""
import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

import mmkd_atsc  # noqa: F401
from mmkd_atsc import cli
from mmkd_atsc.checkpoints.read import load_strictly, read_weights
from mmkd_atsc.export.config import build_training

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from analysis.tables import markdown, pyplot, write_csv


class Answers(NamedTuple):
    """The labels of a data set (N), and the class that each network gives each image (N), the student's first."""

    labels: Tensor
    predictions: dict[str, Tensor]
    num_classes: int

    def accuracy(self, name: str) -> float:
        return 100 * (self.predictions[name] == self.labels).double().mean().item()

    def agreement(self, teacher: str) -> float:
        """Percent of the images to which the student gives the teacher's answer, be it right or wrong."""
        return 100 * (self.predictions['student'] == self.predictions[teacher]).double().mean().item()

    def by_class(self, hits: Tensor) -> Tensor:
        """Percent of a class's images where ``hits`` (N) is true; nan for a class without images."""
        counts = torch.bincount(self.labels, minlength=self.num_classes)
        return 100 * torch.bincount(self.labels, hits.double(), self.num_classes) / counts

    def confusion(self, name: str) -> Tensor:
        """How many images of class i got answer j, at [i, j]."""
        pairs = self.labels * self.num_classes + self.predictions[name]
        return torch.bincount(pairs, minlength=self.num_classes ** 2).view(self.num_classes, -1)

    def outcomes(self, teacher: str) -> dict[str, float]:
        """Percent of the images by who is right, and where none is, whether both make the same mistake.

        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> predictions = dict(student=torch.tensor([0, 1, 0, 1]), teacher=torch.tensor([0, 0, 0, 0]))
        >>> for who, percent in Answers(labels, predictions, 2).outcomes('teacher').items():
        ...     print(who, percent)
        both right 25.0
        only student 25.0
        only teacher 25.0
        same mistake 25.0
        different mistakes 0.0
        """
        student, taught = self.predictions['student'], self.predictions[teacher]
        right, right_teacher, same = student == self.labels, taught == self.labels, student == taught
        wrong = ~right & ~right_teacher
        parts = {'both right': right & right_teacher, 'only student': right & ~right_teacher,
                 'only teacher': ~right & right_teacher, 'same mistake': wrong & same,
                 'different mistakes': wrong & ~same}
        return {name: 100 * hits.double().mean().item() for name, hits in parts.items()}


@torch.no_grad()
def collect_answers(model: BaseModel, data: DataLoader) -> Answers:
    """Runs a distillation's student and teachers over labelled images, each with its own input normalisation."""
    model.eval()  # MMRazor's own returns nothing
    labels: list[Tensor] = []
    found: dict[str, list[Tensor]] = {name: [] for name in ('student', *model.teachers)}
    for batch in data:
        batch = model.data_preprocessor(batch, False)
        inputs, samples = batch['inputs'], batch['data_samples']
        labels.append(torch.cat([sample.gt_label.cpu() for sample in samples]))
        for name, answers in found.items():
            predict = model.teachers[name].predict if name != 'student' else model.architecture.predict
            # One set of samples for all networks: each writes over what the one before has answered.
            answers.append(torch.cat([sample.pred_label.cpu() for sample in predict(inputs, samples)]))
            num_classes = samples[0].pred_score.numel()
    answers = Answers(torch.cat(labels), {name: torch.cat(answers) for name, answers in found.items()}, num_classes)
    if len(answers.labels) != len(answers.predictions['student']):
        raise ValueError(f'the data has {len(answers.labels)} labels for {len(answers.predictions["student"])} images; '
                         'agreement is of images with one label each')
    return answers

def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='the config of the training, or package::path')
    parser.add_argument('checkpoint', help='a checkpoint that tools/train.py wrote with this config')
    parser.add_argument('--out', type=Path, default=Path('work_dirs', 'agreement'), metavar='DIR',
                        help='where to write (default: work_dirs/agreement)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, metavar='KEY=VALUE',
                        help='override settings of the config')
    return parser.parse_args(argv)


def build(config: Config, path: str, checkpoint: str) -> tuple[BaseModel, DataLoader]:
    """The trained model of a config, its teachers with their own input normalisation, and its test data."""
    MMLogger.get_instance('agreement', log_level='WARNING')  # else a line for each parameter that is initialised
    model = build_training(config)
    with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'mmpretrain'):
        if not hasattr(model, 'teachers'):
            raise ValueError(f'{path}: its model is a {type(model).__name__}, which has no teachers; agreement is of a '
                             'MultiTeacherDistill or an AdaptiveTeacherDistill')
        load_strictly(model, read_weights(checkpoint), checkpoint)
        return model.to(get_device()), Runner.build_dataloader(config.test_dataloader, seed=0)


def class_names(data: DataLoader, num_classes: int) -> list[str]:
    names = (getattr(data.dataset, 'metainfo', None) or {}).get('classes') or ()
    return list(map(str, names if len(names) == num_classes else range(num_classes)))


def write_tables(out: Path, answers: Answers, names: list[str], teachers: list[str]) -> None:
    right = {name: answers.by_class(predicted == answers.labels) for name, predicted in answers.predictions.items()}
    same = [answers.by_class(answers.predictions['student'] == answers.predictions[name]) for name in teachers]
    counts = torch.bincount(answers.labels, minlength=answers.num_classes).tolist()
    scores = [*(f'{name} %' for name in right), *(f'agreement with {name} %' for name in teachers)]
    values = torch.stack([*right.values(), *same], dim=1).tolist()
    write_csv(out / 'agreement_classes.csv', ('class', 'images', *scores),
              ((name, count, *(f'{value:.2f}' for value in row)) for name, count, row in zip(names, counts, values)))
    columns = ('teacher', 'label', 'answer', 'student', 'teacher_count', 'difference')
    write_csv(out / 'agreement_confusions.csv', columns,
              (row for teacher in teachers for row in confusion_rows(answers, teacher, names)))


def confusion_rows(answers: Answers, teacher: str, names: list[str]) -> list[tuple]:
    """Each mistake whose number of images differs, the largest difference first."""
    mine, other = answers.confusion('student'), answers.confusion(teacher)
    difference = (mine - other).fill_diagonal_(0)
    rows = [(teacher, names[label], names[answer], mine[label, answer].item(), other[label, answer].item(),
             difference[label, answer].item()) for label, answer in difference.nonzero().tolist()]
    return sorted(rows, key=lambda row: -abs(row[-1]))


def draw(path: Path, answers: Answers, names: list[str], teachers: list[str]) -> None:
    """A row for each teacher: the classes by both accuracies, and the confusions of which the student has more."""
    plot = pyplot()
    figure, grid = plot.subplots(len(teachers), 2, figsize=(11.5, 5.2 * len(teachers)), squeeze=False,
                                 layout='constrained')
    student = answers.by_class(answers.predictions['student'] == answers.labels)
    for (left, right), teacher in zip(grid, teachers):
        taught = answers.by_class(answers.predictions[teacher] == answers.labels)
        left.plot([0, 100], [0, 100], color='0.7', linewidth=1)
        left.scatter(taught, student, s=18)
        for label in (student - taught).abs().nan_to_num().argsort(descending=True)[:8].tolist():
            left.annotate(names[label], (taught[label], student[label]), fontsize=8, xytext=(3, 3),
                          textcoords='offset points')
        left.set(xlabel=f'{teacher}, accuracy of a class, %', ylabel='student, accuracy of a class, %',
                 title=f'agreement {answers.agreement(teacher):.1f}%')
        low = torch.cat([student, taught]).nan_to_num(100).min().item() - 4
        left.set(xlim=(low, 102), ylim=(low, 102))
        difference = (answers.confusion('student') - answers.confusion(teacher)).fill_diagonal_(0)
        limit = max(1, difference.abs().max().item())
        image = right.imshow(difference, cmap='RdBu_r', vmin=-limit, vmax=limit)
        figure.colorbar(image, ax=right, shrink=0.8, label=f'images: student − {teacher}')
        right.set(title='confusions', xlabel='answer', ylabel='label')
        if len(names) <= 20:
            right.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
            right.set_yticks(range(len(names)), names, fontsize=8)
    figure.savefig(path, dpi=100)
    plot.close(figure)


def summary(answers: Answers, teachers: list[str]) -> str:
    scores = ', '.join(f'{name} {answers.accuracy(name):.2f}%' for name in answers.predictions)
    outcomes = [answers.outcomes(teacher) for teacher in teachers]
    columns = ['teacher', 'agreement %', *(f'{name} %' for name in outcomes[0])]
    rows = [[teacher, f'{answers.agreement(teacher):.2f}', *(f'{value:.2f}' for value in outcome.values())]
            for teacher, outcome in zip(teachers, outcomes)]
    return f'{len(answers.labels)} images: {scores}\n\n{markdown(columns, rows, left=["teacher"])}'


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        config = cli.load_config(args.config, args.cfg_options)
        cli.require(config, args.config, 'model', 'test_dataloader')
        pyplot()  # before the minutes, not after
        model, data = build(config, args.config, args.checkpoint)
        answers, teachers = collect_answers(model, data), list(model.teachers)
        names = class_names(data, answers.num_classes)
        args.out.mkdir(parents=True, exist_ok=True)
        write_tables(args.out, answers, names, teachers)
        draw(args.out / 'agreement.png', answers, names, teachers)
        print(summary(answers, teachers), end='\n\n')
        for name in ('agreement_classes.csv', 'agreement_confusions.csv', 'agreement.png'):
            print(args.out / name)


if __name__ == '__main__':
    main()
