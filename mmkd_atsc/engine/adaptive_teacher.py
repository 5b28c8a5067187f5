"""When a teacher adapts, how far it goes, and how well it still does."""
from typing import Any

from mmengine.dist import broadcast
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel

from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import HOOKS
from mmkd_atsc.runtime.model_wrappers import rewrap_model, unwrap_model

from .start_check import BEFORE_TRAINING, check_teacher_accuracy
from .warmup import ScheduledHook


@HOOKS.register_module()
class AdaptiveTeacherHook(ScheduledHook):
    r"""Lets the teacher adapt between two epochs, or iterations, and watches it.

    Before ``start`` and from ``stop`` on the teacher is frozen as it is then, which is SimKD's step. While it adapts,
    its drift :math:`\lVert\theta-\theta^*\rVert/\lVert\theta^*\rVert` is logged as ``teacher/drift`` and, for each
    stage of the encoder, ``teacher/drift.<stage>``; several teachers have names of their own in place of 'teacher'. A
    validation that finds a teacher more than a point below its start is warned of, once.

    Args:
        start: First epoch, counted from 0, in which the teacher adapts. None: when half of the training is done, for a
            teacher would come down to meet an untrained student. The papers' is 0.
        stop: First epoch in which it does not any more. None: it adapts to the end.
        interval: Log the drift every so many iterations.
        min_teacher_accuracy: Stop the run when a validation finds the teacher below this. It needs
            ``val_cfg=dict(type='mmkd_atsc.DistillValLoop', teachers=True)``.
        metric: The metric that is meant.
        by_epoch: ``start`` and ``stop`` are epochs. A training by iterations (``IterBasedTrainLoop``) needs False.

    >>> hook = AdaptiveTeacherHook(start=2, stop=4)
    >>> [hook.is_active(epoch) for epoch in range(6)]
    [False, False, True, True, False, False]
    """

    def __init__(self, start: int | None = None, stop: int | None = None, interval: int = 100,
                 min_teacher_accuracy: float | None = None, metric: str = 'accuracy/top1',
                 by_epoch: bool = True) -> None:
        super().__init__(by_epoch)
        self.start = check_number('start', start, 0, integer=True, optional=True)
        self.stop = check_number('stop', stop, (start or 0) + 1, integer=True, optional=True)
        self.interval = check_number('interval', interval, 1, integer=True)
        self.min_teacher_accuracy = check_number('min_teacher_accuracy', min_teacher_accuracy, 0, 100, optional=True)
        self.metric = metric
        self._warned: set[str] = set()

    def is_active(self, done: int) -> bool:
        """Whether the teacher adapts after so many epochs or iterations."""
        return done >= (self.start or 0) and (self.stop is None or done < self.stop)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        model = unwrap_model(runner)
        if not getattr(model, 'adaptive', False):
            raise TypeError('AdaptiveTeacherHook needs an AdaptiveTeacherDistill with adaptive=True, the model is a '
                            f'{type(model).__name__}')
        if self.min_teacher_accuracy is not None and not getattr(runner.val_loop, 'teachers', False):
            raise ValueError('min_teacher_accuracy needs a validation of the teacher: '
                             "val_cfg=dict(type='mmkd_atsc.DistillValLoop', teachers=True)")
        if self.start is None:
            self.start = (runner.max_epochs if self.by_epoch else runner.max_iters) // 2

    def update(self, runner: Runner, done: int) -> None:
        model, active = unwrap_model(runner), self.is_active(done)
        if model.adapting == active:
            return
        model.set_adapting(active)
        when = f'{"epoch" if self.by_epoch else "iteration"} {done + 1}'
        runner.logger.info(f'the teacher {"adapts from" if active else "is frozen in"} {when} on')
        if is_model_wrapper(runner.model) and not active:
            # Its batch norm has counted other images in each process, and from now on runs on those statistics:
            # all take those of the process that saves.
            for buffer in model.teachers.buffers():
                broadcast(buffer)
        if isinstance(runner.model, DistributedDataParallel):
            rewrap_model(runner)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: dict | None = None) -> None:
        model = unwrap_model(runner)
        if not model.adapting or not (self.every_n_inner_iters(batch_idx, self.interval)
                                      or self.end_of_epoch(runner.train_dataloader, batch_idx)):
            return
        for name, anchor in model.distiller.anchors.items():
            for stage, drift in anchor.drift().items():
                key = f'{name}/drift' if stage == 'total' else f'{name}/drift.{stage}'
                runner.message_hub.update_scalar(f'train/{key}', drift)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self._warn_of_losses(runner, metrics or {})
        when = f'in epoch {runner.epoch}' if self.by_epoch else f'at iteration {runner.iter}'
        for name in unwrap_model(runner).teachers if self.min_teacher_accuracy is not None else ():
            measured = {key: value for key, value in (metrics or {}).items() if key.startswith(f'{name}/')}
            if measured:  # it is its turn
                check_teacher_accuracy(measured, f'{name}/{self.metric}', self.min_teacher_accuracy, when,
                                       'the teacher has collapsed; raise anchor_weight or lower the learning rate')

    def _warn_of_losses(self, runner: Runner, metrics: dict[str, float]) -> None:
        start = runner.message_hub.runtime_info.get(BEFORE_TRAINING, {})
        for name in unwrap_model(runner).teachers:
            key = f'{name}/{self.metric}'
            if name in self._warned or key not in metrics or key not in start or metrics[key] >= start[key] - 1:
                continue
            self._warned.add(name)
            runner.logger.warning(
                f'{key} fell from {start[key]:.2f} before training to {metrics[key]:.2f}: the teacher comes down to '
                'meet its student; raise anchor_weight, lower teacher_lr_mult, or let the teacher adapt later (start)')
