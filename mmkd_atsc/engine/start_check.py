"""Checks that run before training."""
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmkd_atsc.errors.checks import TrainingStopped, check_flag, check_number, nearest
from mmkd_atsc.recorders.logits import count_classes
from mmkd_atsc.registry import HOOKS
from mmkd_atsc.runtime.exact_resume import random_state, set_random_state
from mmkd_atsc.runtime.model_wrappers import unwrap_model

BEFORE_TRAINING = 'teachers_before_training'  # the message hub's name for the teachers' metrics


@HOOKS.register_module()
class StartCheckHook(Hook):
    """Checks data, student and teachers against each other before the first step.

    - The data set, the student and each teacher that teaches by its logits or its classifier have the same classes.
    - All processes have loaded the same teachers.
    - The teachers' accuracy on the validation data is logged: one pass with the teachers alone when a run starts (not
      when it is resumed), if its loop is a ``DistillValLoop``.

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
        self.min_teacher_accuracy = check_number('min_teacher_accuracy', min_teacher_accuracy, 0, 100, optional=True)
        self.metric = metric

    def before_train(self, runner: Runner) -> None:
        model, dataset = unwrap_model(runner), runner.train_dataloader.dataset
        check_classes(model, dataset)
        if not hasattr(model, 'teachers'):
            return
        check_same_teachers(model.teachers)
        if not self.score_teachers:
            return
        score = getattr(runner.val_loop, 'score_teachers', None)
        if score is None and self.min_teacher_accuracy is not None:
            why = (f'min_teacher_accuracy={self.min_teacher_accuracy} needs a validation that scores teachers, '
                   "val_cfg=dict(type='mmkd_atsc.DistillValLoop'), or must be None")
            if runner.val_loop is not None:
                raise ValueError(why)
            runner.logger.warning(why)
        if score is not None and not runner.iter:
            before = random_state()
            self._check_accuracy(runner, score())
            set_random_state(before)

    def _check_accuracy(self, runner: Runner, metrics: dict[str, float]) -> None:
        runner.message_hub.update_info(BEFORE_TRAINING, metrics)
        runner.logger.info('before training: ' + ', '.join(f'{key} {value:.2f}' for key, value in metrics.items()))
        for name, teacher in unwrap_model(runner).teachers.items():
            if self.min_teacher_accuracy is not None and teacher.loaded:  # a random one was asked for
                check_teacher_accuracy(
                    metrics, f'{name}/{self.metric}', self.min_teacher_accuracy, 'before training',
                    f'{teacher.origin} does not fit these data, their normalisation or the order of their classes')


def check_teacher_accuracy(metrics: dict[str, float], key: str, least: float | None, when: str, why: str) -> None:
    """Stops a run whose teacher is worse than ``min_teacher_accuracy``."""
    if key not in metrics:
        metric = key.partition('/')[2]
        raise ValueError(f'metric={metric!r}: the validation gives {", ".join(metrics)}, no {key}'
                         f'{nearest(key, metrics)}')
    if least is not None and metrics[key] < least:
        raise TrainingStopped(f'{key} is {metrics[key]:.2f} {when}, below min_teacher_accuracy={least}: {why}')


def check_classes(model: nn.Module, dataset: Any) -> None:
    """Refuses data, a student and teachers that differ in their number of classes."""
    student = getattr(model, 'student', model)
    counts = {'the student': count_classes(student)}
    names = (getattr(dataset, 'metainfo', None) or {}).get('classes')
    counts['the training data'] = len(names) if isinstance(names, (list, tuple)) else None
    teachers = getattr(model, 'teachers', {})
    if getattr(model, 'shares_classifier', False) or compares_logits(getattr(model, 'distiller', None)):
        counts.update((name, teacher.num_classes) for name, teacher in teachers.items())
    known = {name: count for name, count in counts.items() if count}
    if len(set(known.values())) > 1:
        raise ValueError('the numbers of classes differ: '
                         + ', '.join(f'{name} has {count}' for name, count in known.items()))


def compares_logits(distiller: nn.Module | None) -> bool:
    """Whether a distiller, or a loss of it, says that it compares logits; others may compare features."""
    parts = [distiller, *getattr(distiller, 'distill_losses', {}).values()]
    return any(getattr(part, 'compares_logits', False) for part in parts)


def check_same_teachers(teachers: nn.ModuleDict) -> None:
    """Refuses to train where processes have read different weights: training would use the first one's in all."""
    own = {name: teacher.loaded for name, teacher in teachers.items()}
    for rank, other in enumerate(all_gather_object(own)):
        differing = [name for name in own if own[name] != other.get(name)]
        if differing:
            raise ValueError(f'{", ".join(differing)}: process {rank} has read other weights than this one; '
                             'teacher_ckpt must be the same file on all machines')
