"""Where a student answers as its teachers do, and where it does not."""
from typing import Dict, List, NamedTuple

import torch
from mmengine.model import BaseModel
from torch import Tensor
from torch.utils.data import DataLoader


class Answers(NamedTuple):
    """The labels of a data set (N), and the class that each network gives each image (N), the student's first."""

    labels: Tensor
    predictions: Dict[str, Tensor]
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

    def outcomes(self, teacher: str) -> Dict[str, float]:
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
    labels: List[Tensor] = []
    found: Dict[str, List[Tensor]] = {name: [] for name in ('student', *model.teachers)}
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
