"""When a teacher adapts, how far it goes, and how well it still does."""
from typing import Any, Dict, Optional

from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.nn.parallel import DistributedDataParallel

from mmkd_atsc.errors.checks import TrainingStopped, check_number, nearest
from mmkd_atsc.registry import HOOKS
from mmkd_atsc.runtime.model_wrappers import rewrap_model, unwrap_model


@HOOKS.register_module()
class AdaptiveTeacherHook(Hook):
    r"""Lets the teacher adapt between two epochs and watches it.

    Before ``start`` and from ``stop`` on the teacher is frozen as it is then, which is SimKD's step. While it adapts,
    its drift :math:`\lVert\theta-\theta^*\rVert/\lVert\theta^*\rVert` is logged as ``teacher/drift`` and, for each
    stage of the encoder, ``teacher/drift/<stage>``; several teachers have names of their own in place of 'teacher'.

    Args:
        start: First epoch, counted from 0, in which the teacher adapts.
        stop: First epoch in which it does not any more. None: it adapts to the end.
        interval: Log the drift every so many iterations.
        min_teacher_accuracy: Stop the run when a validation finds the teacher below this. It needs
            ``val_cfg=dict(type='mmkd_atsc.DistillValLoop', teachers=True)``.
        metric: The metric that is meant.

    >>> hook = AdaptiveTeacherHook(start=2, stop=4)
    >>> [hook.is_active(epoch) for epoch in range(6)]
    [False, False, True, True, False, False]
    """

    # Before the logger, which takes the drift of the same iteration.
    priority = 'NORMAL'

    def __init__(self, start: int = 0, stop: Optional[int] = None, interval: int = 100,
                 min_teacher_accuracy: Optional[float] = None, metric: str = 'accuracy/top1') -> None:
        self.start = check_number('start', start, 0, integer=True)
        self.stop = stop if stop is None else check_number('stop', stop, start + 1, integer=True)
        self.interval = check_number('interval', interval, 1, integer=True)
        if min_teacher_accuracy is not None:
            check_number('min_teacher_accuracy', min_teacher_accuracy, 0, 100)
        self.min_teacher_accuracy = min_teacher_accuracy
        self.metric = metric

    def is_active(self, epoch: int) -> bool:
        """Whether the teacher adapts in an epoch, counted from 0."""
        return epoch >= self.start and (self.stop is None or epoch < self.stop)

    def before_train(self, runner: Runner) -> None:
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError('AdaptiveTeacherHook counts epochs; with train_cfg=dict(by_epoch=False) there are none')
        model = unwrap_model(runner)
        if not getattr(model, 'adaptive', False):
            what = type(model).__name__ + (' with adaptive=False' if hasattr(model, 'set_adapting') else '')
            raise TypeError(f'AdaptiveTeacherHook needs an AdaptiveTeacherDistill whose teacher adapts, not a {what}')
        if self.start >= runner.max_epochs:
            runner.logger.warning(f'AdaptiveTeacherHook: start={self.start} is never reached in {runner.max_epochs} '
                                  'epochs, the teacher does not adapt')
        if self.min_teacher_accuracy is not None and not getattr(runner.val_loop, 'teachers', False):
            raise ValueError('min_teacher_accuracy needs a validation of the teacher: '
                             "val_cfg=dict(type='mmkd_atsc.DistillValLoop', teachers=True)")

    def before_train_epoch(self, runner: Runner) -> None:
        active = self.is_active(runner.epoch)
        if unwrap_model(runner).adapting == active:
            return
        unwrap_model(runner).set_adapting(active)
        runner.logger.info(f'the teacher {"adapts from" if active else "is frozen in"} epoch {runner.epoch + 1} on')
        if is_model_wrapper(runner.model):
            if not active:
                # Its batch norm has counted other images in each process, and from now on runs on those statistics:
                # all take those of the process that saves.
                for buffer in unwrap_model(runner).teachers.buffers():
                    broadcast(buffer)
        if isinstance(runner.model, DistributedDataParallel):
            rewrap_model(runner)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        model = unwrap_model(runner)
        if not model.adapting or not (self.every_n_inner_iters(batch_idx, self.interval)
                                      or self.end_of_epoch(runner.train_dataloader, batch_idx)):
            return
        for name, anchor in model.distiller.anchors.items():
            for stage, drift in anchor.drift().items():
                key = f'{name}/drift' if stage == 'total' else f'{name}/drift/{stage}'
                runner.message_hub.update_scalar(f'train/{key}', drift)

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        if self.min_teacher_accuracy is None:
            return
        for name in getattr(unwrap_model(runner), 'teachers', ()):
            key, measured = f'{name}/{self.metric}', [m for m in metrics or () if m.startswith(f'{name}/')]
            if not measured:  # not its turn
                continue
            if key not in measured:
                raise ValueError(f'metric={self.metric!r}: the validation gives {", ".join(measured)}, no {key}'
                                 f'{nearest(key, measured)}')
            value = metrics[key]
            if value < self.min_teacher_accuracy:
                raise TrainingStopped(f'{key} fell to {value:.2f} in epoch {runner.epoch}, below '
                                      f'min_teacher_accuracy={self.min_teacher_accuracy}: the teacher has collapsed; '
                                      'raise anchor_weight or lower the learning rate')
