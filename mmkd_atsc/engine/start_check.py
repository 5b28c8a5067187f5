"""Checks that run before training."""
from typing import Any

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmkd_atsc.errors.checks import TrainingStopped, check_flag, check_number, nearest
from mmkd_atsc.registry import HOOKS
from mmkd_atsc.runtime.model_wrappers import unwrap_model
from mmkd_atsc.runtime.random_state import random_state, set_random_state

MOST_LABELS = 100_000  # that are looked at: more are sampled evenly
BEFORE_TRAINING = 'teachers_before_training'  # the message hub's name for the teachers' metrics


@HOOKS.register_module()
class StartCheckHook(Hook):
    """Checks data, student and teachers against each other before the first step.

    - The data set's classes, its labels and the student's answers must agree; a teacher that answers for another
      number of classes is refused where it teaches by its answers or its classifier.
    - All processes must have loaded the same teachers.
    - Each network's input normalisation is logged, and how good the teachers are on the validation data: for that, one
      pass with the teachers alone when a run starts (not when it is resumed), if its loop is a ``DistillValLoop``.

    Args:
        score_teachers: Make that pass.
        min_teacher_accuracy: Stop the run if a teacher with a checkpoint is below this. None: no such bound.
        metric: The metric that is meant.

    >>> StartCheckHook(min_teacher_accuracy=101)
    Traceback (most recent call last):
    ValueError: min_teacher_accuracy=101 must be a number at least 0 and at most 100
    """

    priority = 'LOW'

    def __init__(self, score_teachers: bool = True, min_teacher_accuracy: float | None = None,
                 metric: str = 'accuracy/top1') -> None:
        self.score_teachers = check_flag('score_teachers', score_teachers)
        if min_teacher_accuracy is not None:
            check_number('min_teacher_accuracy', min_teacher_accuracy, 0, 100)
        self.min_teacher_accuracy, self.metric = min_teacher_accuracy, metric

    def before_train(self, runner: Runner) -> None:
        model, dataset = unwrap_model(runner), runner.train_dataloader.dataset
        classes = check_classes(model, dataset)
        if classes is not None:
            check_labels(dataset, classes)
        if not hasattr(model, 'teachers'):
            if self.min_teacher_accuracy is not None and hasattr(model, 'teacher'):
                runner.logger.warning(f'min_teacher_accuracy={self.min_teacher_accuracy} is not looked at: '
                                      f'{type(model).__name__} is not of the kind that tells of its teachers')
            return
        check_same_teachers(model.teachers)
        runner.logger.info(f'images: {describe_normalisation(model)}')
        score = getattr(runner.val_loop, 'score_teachers', None)
        if self.score_teachers and self.min_teacher_accuracy is not None and not score:
            if runner.val_loop is not None:
                raise ValueError(f'min_teacher_accuracy={self.min_teacher_accuracy} needs a validation that scores '
                                 "teachers, val_cfg=dict(type='mmkd_atsc.DistillValLoop'), or must be None")
            runner.logger.warning('min_teacher_accuracy is not looked at: there is no validation data')
        if self.score_teachers and score and not runner.iter:
            before = random_state()
            self._check_accuracy(runner, score())
            set_random_state(before)

    def _check_accuracy(self, runner: Runner, metrics: dict[str, float]) -> None:
        runner.message_hub.update_info(BEFORE_TRAINING, metrics)
        runner.logger.info('before training: ' + ', '.join(f'{key} {value:.2f}' for key, value in metrics.items()))
        for name, teacher in unwrap_model(runner).teachers.items():
            key = f'{name}/{self.metric}'
            if self.min_teacher_accuracy is None or not teacher.loaded:  # a random one was asked for
                continue
            if key not in metrics:
                raise ValueError(f'metric={self.metric!r}: the validation gives {", ".join(metrics)}'
                                 f'{nearest(key, metrics)}')
            if metrics[key] < self.min_teacher_accuracy:
                raise TrainingStopped(
                    f'{key} is {metrics[key]:.2f} before training, below min_teacher_accuracy='
                    f'{self.min_teacher_accuracy}: {teacher.origin} does not fit these data, their normalisation or '
                    'the order of their classes')


def check_classes(model: nn.Module, dataset: Any) -> int | None:
    """The student's number of classes, where it tells; refuses data and teachers that have another."""
    student = getattr(model, 'student', model)
    counts = {'the student': getattr(getattr(student, 'head', None), 'num_classes', None)}
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    counts['the training data'] = len(names) if isinstance(names, (list, tuple)) else None
    teachers = getattr(model, 'teachers', {})
    if getattr(model, 'shares_classifier', False) or compares_logits(getattr(model, 'distiller', None)):
        counts.update((name, teacher.num_classes) for name, teacher in teachers.items())
    known = {name: count for name, count in counts.items() if count}
    if len(set(known.values())) > 1:
        raise ValueError('the numbers of classes differ: '
                         + ', '.join(f'{name} has {count}' for name, count in known.items()))
    return next((count for name, count in known.items() if name != 'the training data'), None)


def compares_logits(distiller: nn.Module | None) -> bool:
    """Whether a distiller, or a loss of it, says that it compares logits; others may compare features."""
    parts = [distiller, *getattr(distiller, 'distill_losses', {}).values()]
    return any(getattr(part, 'compares_logits', False) for part in parts)


def check_labels(dataset: Any, classes: int) -> None:
    """Refuses labels for which the networks have no answer; on a GPU they would end the process in the first step.

    >>> from types import SimpleNamespace
    >>> check_labels(SimpleNamespace(data_list=SimpleNamespace(labels=torch.tensor([0, 12]))), classes=10)
    Traceback (most recent call last):
    ValueError: the training data have labels from 0 to 12, the networks answer 0 to 9
    """
    labels = getattr(getattr(dataset, 'data_list', None), 'labels', None)
    if labels is None and hasattr(dataset, 'get_data_info'):
        step = 1 + len(dataset) // MOST_LABELS
        found = [dataset.get_data_info(index).get('gt_label') for index in range(0, len(dataset), step)]
        labels = torch.tensor([label for label in found if isinstance(label, int)])
    if labels is None or not len(labels):
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise ValueError(f'the training data have labels from {low} to {high}, the networks answer 0 to {classes - 1}')


def check_same_teachers(teachers: nn.ModuleDict) -> None:
    """Refuses to train where processes have read different weights: the first one's would silently go for all."""
    own = {name: teacher.loaded for name, teacher in teachers.items()}
    for rank, other in enumerate(all_gather_object(own)):
        differing = [name for name in own if own[name] != other.get(name)]
        if differing:
            raise ValueError(f'{", ".join(differing)}: process {rank} has read other weights than this one; '
                             'teacher_ckpt must be the same file on all machines')


def describe_normalisation(model: nn.Module) -> str:
    """What each network makes of an image, in one line."""
    student = _statistics(model.data_preprocessor)
    lines = [f'student {student}']
    for name, teacher in model.teachers.items():
        same = teacher.renormalize.identity
        lines.append(f'{name} {"the same" if same else _statistics(teacher.model.data_preprocessor)}')
    return '; '.join(lines)


def _statistics(preprocessor: nn.Module) -> str:
    mean, std = getattr(preprocessor, 'mean', None), getattr(preprocessor, 'std', None)
    if mean is None or std is None:
        return 'as they are'
    numbers = [', '.join(f'{value:g}' for value in statistics.flatten().tolist()) for statistics in (mean, std)]
    swaps = getattr(preprocessor, 'to_rgb', False) or getattr(preprocessor, '_channel_conversion', False)
    return f'minus ({numbers[0]}), by ({numbers[1]}){", channels swapped" if swaps else ""}'
