"""One pass over the data that scores the student and, if asked, its teachers."""
import copy
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.runner import BaseLoop, TestLoop, ValLoop
from mmengine.runner.amp import autocast

from mmkd_atsc.errors.checks import check_flag, check_number
from mmkd_atsc.registry import LOOPS
from mmkd_atsc.runtime.model_wrappers import unwrap_model


class _ScoringLoop(BaseLoop):
    """What validation and test have in common: an evaluator for each network, and metrics that say whose they are."""

    evaluator: Evaluator
    fp16: bool

    def __init__(self, *args: Any, teachers: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.teachers = check_flag('teachers', teachers)
        self._model = unwrap_model(self.runner)
        if not hasattr(self._model, 'teachers'):
            raise TypeError(f'{type(self).__name__} scores teachers, {type(self._model).__name__} has none; use '
                            'val_cfg=dict() and test_cfg=dict()')

    def _run_stage(self, stage: str, with_teachers: bool) -> dict[str, float]:
        """One pass over the data with the hooks of a stage, 'val' or 'test'."""
        call_hook = self.runner.call_hook
        call_hook(f'before_{stage}')
        call_hook(f'before_{stage}_epoch')
        metrics = self._score(['student', *(self._model.teachers if with_teachers else ())], stage)
        call_hook(f'after_{stage}_epoch', metrics=metrics)
        call_hook(f'after_{stage}')
        return metrics

    @torch.no_grad()
    def _score(self, names: list[str], stage: str | None = None) -> dict[str, float]:
        """The metrics of networks by one pass over the data; with a stage its hooks are called for each batch."""
        self.runner.model.eval()
        evaluators = {name: self.evaluator if name == 'student' else copy.deepcopy(self.evaluator) for name in names}
        for index, data_batch in enumerate(self.dataloader):
            if stage:
                self.runner.call_hook(f'before_{stage}_iter', batch_idx=index, data_batch=data_batch)
            with autocast(enabled=self.fp16):
                data = self._model.data_preprocessor(data_batch, False)
                for name, evaluator in reversed(evaluators.items()):  # the student last: its predictions stay
                    outputs = on_cpu(self._predict(name, data))
                    evaluator.process(data_samples=outputs, data_batch=data_batch)
            if stage:
                self.runner.call_hook(f'after_{stage}_iter', batch_idx=index, data_batch=data_batch, outputs=outputs)
        size = len(self.dataloader.dataset)
        return {f'{name}/{key}': value for name, evaluator in evaluators.items()
                for key, value in evaluator.evaluate(size).items()}

    def _predict(self, name: str, data: dict) -> list:
        if name == 'student':
            return self._model(data['inputs'], data['data_samples'], mode='predict')
        return self._model.teachers[name].predict(data['inputs'], data['data_samples'])


def on_cpu(samples: Sequence) -> Sequence:
    """Moves predictions and labels to the CPU with one copy a field; MMPretrain's metrics copy each sample's."""
    for field in ('pred_score', 'pred_label', 'gt_label', 'gt_score'):
        values = [sample.get(field) for sample in samples] if isinstance(samples, Sequence) else []
        on_device = [isinstance(value, torch.Tensor) and value.device.type != 'cpu' for value in values]
        if values and all(on_device) and len({(value.shape, value.dtype) for value in values}) == 1:
            for sample, value in zip(samples, torch.stack(values).cpu()):
                sample.set_field(value, field, field_type='data')
    return samples


@LOOPS.register_module()
class DistillValLoop(_ScoringLoop, ValLoop):
    """Validation of a student and its teachers over one pass of the data.

    The metrics are named ``student/accuracy/top1``, ``teacher/accuracy/top1`` (or the teacher's own name), for
    ``save_best`` too.

    Args:
        teachers: Score the teachers too.
        every_n_epochs: Score the teachers only in every n-th epoch; the last one counts always.
        runner, dataloader, evaluator, fp16: As in MMEngine's ``ValLoop``.
    """

    def __init__(self, *args: Any, every_n_epochs: int = 1, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.every_n_epochs = check_number('every_n_epochs', every_n_epochs, 1, integer=True)
        # A metric that is not there in every validation would stop the run at the end of an epoch.
        owners = ['student', *(self._model.teachers if self.teachers and every_n_epochs == 1 else ())]
        for key in (key for hook in self.runner.hooks for key in getattr(hook, 'key_indicators', ())):
            if key != 'auto' and key.partition('/')[0] not in owners:
                raise ValueError(f"save_best={key!r} must begin with {' or '.join(f'{owner}/' for owner in owners)}; "
                                 'DistillValLoop scores the teachers always with teachers=True and every_n_epochs=1')

    def score_teachers(self) -> dict[str, float]:
        """The teachers' metrics, by a pass with them alone and without hooks."""
        return self._score(list(self._model.teachers))

    def run(self) -> dict[str, float]:
        epoch = self.runner.epoch
        due = epoch % self.every_n_epochs == 0 or epoch == self.runner.max_epochs
        return self._run_stage('val', self.teachers and due)


@LOOPS.register_module()
class DistillTestLoop(_ScoringLoop, TestLoop):
    """:class:`DistillValLoop` for ``tools/test.py``, with MMEngine's ``TestLoop``'s arguments and ``teachers``."""

    def run(self) -> dict[str, float]:
        return self._run_stage('test', self.teachers)
