"""Compares a distilled student's answers with its teachers': accuracy and agreement, overall and by class.

python tools/analysis/agreement.py CONFIG CHECKPOINT [--out DIR]

Student and teachers answer the config's test data in one pass. The teachers are those in the checkpoint, which may have
adapted. DIR/agreement_classes.csv gets a line for each class.
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
from analysis.tables import markdown, write_csv


class Answers(NamedTuple):
    """The labels of a data set (N), and the class that each network gives each image (N), by the network's name."""

    labels: Tensor
    predictions: dict[str, Tensor]
    num_classes: int

    def hits(self, name: str) -> Tensor:
        """The images that a network gets right."""
        return self.predictions[name] == self.labels

    def agrees(self, teacher: str) -> Tensor:
        """The images to which the student gives the teacher's answer, right or wrong."""
        return self.predictions['student'] == self.predictions[teacher]

    def by_class(self, hits: Tensor) -> Tensor:
        """Percent of each class's images where ``hits`` (N) is true; nan for a class without images."""
        counts = torch.bincount(self.labels, minlength=self.num_classes)
        return 100 * torch.bincount(self.labels, hits.double(), self.num_classes) / counts

    def outcomes(self, teacher: str) -> dict[str, float]:
        """Percent of the images by who is right; where both are wrong, by whether they make the same mistake.

        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> predictions = dict(student=torch.tensor([0, 1, 0, 1]), teacher=torch.tensor([0, 0, 0, 0]))
        >>> for who, value in Answers(labels, predictions, 2).outcomes('teacher').items():
        ...     print(who, value)
        agreement 50.0
        both right 25.0
        only student 25.0
        only teacher 25.0
        same mistake 25.0
        different mistakes 0.0
        """
        student, taught, same = self.hits('student'), self.hits(teacher), self.agrees(teacher)
        wrong = ~student & ~taught
        parts = {'agreement': same, 'both right': student & taught, 'only student': student & ~taught,
                 'only teacher': ~student & taught, 'same mistake': wrong & same, 'different mistakes': wrong & ~same}
        return {name: percent(hits) for name, hits in parts.items()}


def percent(hits: Tensor) -> float:
    return 100 * hits.double().mean().item()


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


def write_classes(path: Path, answers: Answers, names: list[str], teachers: list[str]) -> None:
    """A line for each class: its images, the accuracy of each network, the agreement with each teacher."""
    columns = {f'{name} %': answers.by_class(answers.hits(name)) for name in answers.predictions}
    columns.update((f'agreement with {name} %', answers.by_class(answers.agrees(name))) for name in teachers)
    counts = torch.bincount(answers.labels, minlength=answers.num_classes).tolist()
    values = torch.stack(list(columns.values()), dim=1).tolist()
    write_csv(path, ('class', 'images', *columns),
              ((name, count, *(f'{value:.2f}' for value in row)) for name, count, row in zip(names, counts, values)))


def summary(answers: Answers, teachers: list[str]) -> str:
    scores = ', '.join(f'{name} {percent(answers.hits(name)):.2f}%' for name in answers.predictions)
    rows = {teacher: answers.outcomes(teacher) for teacher in teachers}
    columns = ['teacher', *(f'{name} %' for name in rows[teachers[0]])]
    cells = [[teacher, *(f'{value:.2f}' for value in outcomes.values())] for teacher, outcomes in rows.items()]
    return f'{len(answers.labels)} images: {scores}\n\n{markdown(columns, cells, left=["teacher"])}'


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        config = cli.load_config(args.config, args.cfg_options)
        cli.require(config, args.config, 'model', 'test_dataloader')
        model, data = build(config, args.config, args.checkpoint)
        answers, teachers = collect_answers(model, data), list(model.teachers)
        names = (getattr(data.dataset, 'metainfo', None) or {}).get('classes') or ()
        names = list(map(str, names if len(names) == answers.num_classes else range(answers.num_classes)))
        args.out.mkdir(parents=True, exist_ok=True)
        write_classes(args.out / 'agreement_classes.csv', answers, names, teachers)
        print(f'{summary(answers, teachers)}\n\n{args.out / "agreement_classes.csv"}')


if __name__ == '__main__':
    main()
