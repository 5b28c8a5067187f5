"""One pass over the data that scores the student and, if asked, its teachers."""
import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler
from mmengine.runner import BaseLoop, Runner, TestLoop, ValLoop
from mmengine.runner.amp import autocast

from mmkd_atsc.errors.checks import check_flag, check_number, nearest
from mmkd_atsc.registry import LOOPS
from mmkd_atsc.runtime.model_wrappers import unwrap_model


class _ScoringLoop(BaseLoop):
    """What validation and test have in common: an evaluator for each network, and metrics that say whose they are."""

    evaluator: Evaluator
    fp16: bool

    def _find_networks(self) -> None:
        self._model = unwrap_model(self.runner)
        if not hasattr(self._model, 'teachers'):
            raise TypeError(f'{type(self).__name__} scores a student and its teachers, {type(self._model).__name__} '
                            'has none; use val_cfg=dict() and test_cfg=dict()')

    def _pass(self, stage: str, score_teachers: bool) -> dict[str, float]:
        """One pass over the data with the hooks of a stage, 'val' or 'test'; returns the metrics."""
        call_hook = self.runner.call_hook
        call_hook(f'before_{stage}')
        call_hook(f'before_{stage}_epoch')
        self.runner.model.eval()
        self._evaluators: dict[str, Evaluator] = {'student': self.evaluator}
        if score_teachers:
            self._evaluators.update((name, copy.deepcopy(self.evaluator)) for name in self._model.teachers)
        for index, data_batch in enumerate(self.dataloader):
            call_hook(f'before_{stage}_iter', batch_idx=index, data_batch=data_batch)
            outputs = self._score(data_batch)
            call_hook(f'after_{stage}_iter', batch_idx=index, data_batch=data_batch, outputs=outputs)
        metrics = self._metrics()
        call_hook(f'after_{stage}_epoch', metrics=metrics)
        call_hook(f'after_{stage}')
        return metrics

    @torch.no_grad()
    def _score(self, data_batch: Any) -> Sequence:
        with autocast(enabled=self.fp16):
            data = self._model.data_preprocessor(data_batch, False)
            for name, evaluator in reversed(self._evaluators.items()):  # the student last: its predictions stay
                network = self._model.teachers[name].predict if name != 'student' else self._predict_student
                outputs = on_cpu(network(data['inputs'], data['data_samples']))
                evaluator.process(data_samples=outputs, data_batch=data_batch)
        return outputs

    def _predict_student(self, inputs: torch.Tensor, data_samples: list) -> list:
        return self._model(inputs, data_samples, mode='predict')

    def _metrics(self) -> dict[str, float]:
        size = len(self.dataloader.dataset)
        return {f'{name}/{key}': value for name, evaluator in self._evaluators.items()
                for key, value in evaluator.evaluate(size).items()}


def on_cpu(samples: list) -> list:
    """Moves what the samples of a batch answer in one copy a field; MMPretrain's metrics would move each alone."""
    for field in ('pred_score', 'pred_label', 'gt_label', 'gt_score'):
        values = [sample.get(field) for sample in samples] if isinstance(samples, list) else []
        on_device = [isinstance(value, torch.Tensor) and value.device.type != 'cpu' for value in values]
        if values and all(on_device) and len({(value.shape, value.dtype) for value in values}) == 1:
            for sample, value in zip(samples, torch.stack(values).cpu()):
                sample.set_field(value, field, field_type='data')
    return samples


def watched_metrics(runner: Runner) -> dict[str, str]:
    """The metrics that decide something, by the settings that name them: the best checkpoint, the end, the rate."""
    watched = {f'save_best={key!r}': key for hook in runner.hooks if isinstance(hook, CheckpointHook)
               for key in getattr(hook, 'key_indicators', ()) if key != 'auto'}
    schedulers = runner.param_schedulers  # a dictionary of lists where there are several optimizers
    schedulers = schedulers.values() if isinstance(schedulers, dict) else [schedulers]
    readers = [hook for hook in runner.hooks if isinstance(hook, EarlyStoppingHook)]
    readers += [one for group in schedulers if isinstance(group, list) for one in group
                if isinstance(one, ReduceOnPlateauParamScheduler)]
    for reader in readers:
        setting = f'monitor={reader.monitor!r} of {type(reader).__name__}'
        watched[setting] = reader.monitor
        if 'accuracy' in reader.monitor and reader.rule == 'less':  # a plateau's rule, if it is not given
            raise ValueError(f"{setting}: with rule='less' an accuracy that rises counts as worse; set rule='greater'")
    return watched


@LOOPS.register_module()
class DistillValLoop(_ScoringLoop, ValLoop):
    """Validation of a student and its teachers over one pass of the data.

    The metrics are named ``student/accuracy/top1``, ``teacher/accuracy/top1`` (or the teacher's own name), so that
    ``save_best='student/accuracy/top1'`` and the log cannot mean another network. Such a name, and the ``monitor`` of
    an early stop or of a rate that falls on a plateau, is checked when the loop is built; whether there is that metric,
    when ``StartCheckHook`` scores the teachers.

    Args:
        teachers: Score the teachers too.
        every_n_epochs: Score the teachers only in every n-th epoch; the last one counts always.
        runner, dataloader, evaluator, fp16: As in MMEngine's ``ValLoop``.
    """

    def __init__(self, runner: Runner, dataloader: Any, evaluator: Any, fp16: bool = False, teachers: bool = False,
                 every_n_epochs: int = 1) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self._find_networks()
        self.teachers = check_flag('teachers', teachers)
        self.every_n_epochs = check_number('every_n_epochs', every_n_epochs, 1, integer=True)
        self._watched = watched_metrics(runner)
        for setting, key in self._watched.items():
            self._check_name(setting, key)

    def _check_name(self, setting: str, key: str) -> None:
        """A metric that is not there in every validation would stop the run at the end of an epoch, or never."""
        name = key.partition('/')[0]
        if name == 'student':
            return
        if name not in self._model.teachers:
            raise ValueError(f"{setting} does not say whose: it must begin with 'student/' or a teacher's name, "
                             f'{", ".join(self._model.teachers)}')
        if not self.teachers or self.every_n_epochs > 1:
            raise ValueError(f'{setting} needs the teachers in every validation: DistillValLoop with teachers=True and '
                             'every_n_epochs=1')

    def score_teachers(self) -> dict[str, float]:
        """The teachers' metrics, by a pass with them alone and without hooks."""
        self.runner.model.eval()
        self._evaluators = {name: copy.deepcopy(self.evaluator) for name in self._model.teachers}
        for data_batch in self.dataloader:
            self._score(data_batch)
        metrics = self._metrics()
        given = sorted({key.partition('/')[2] for key in metrics})  # the student's will have the same names
        for setting, key in self._watched.items():
            if key.partition('/')[2] not in given:
                raise ValueError(f'{setting}: the validation gives {", ".join(given)}'
                                 f'{nearest(key.partition("/")[2], given)}')
        return metrics

    def run(self) -> dict[str, float]:
        epoch = self.runner.epoch
        due = epoch % self.every_n_epochs == 0 or epoch == self.runner.max_epochs
        return self._pass('val', self.teachers and due)


@LOOPS.register_module()
class DistillTestLoop(_ScoringLoop, TestLoop):
    """:class:`DistillValLoop` for ``tools/test.py``.

    Args:
        teachers: Score the teachers too.
        runner, dataloader, evaluator, fp16: As in MMEngine's ``TestLoop``.
    """

    def __init__(self, runner: Runner, dataloader: Any, evaluator: Any, fp16: bool = False,
                 teachers: bool = False) -> None:
        super().__init__(runner, dataloader, evaluator, fp16)
        self._find_networks()
        self.teachers = check_flag('teachers', teachers)

    def run(self) -> dict[str, float]:
        return self._pass('test', self.teachers)
