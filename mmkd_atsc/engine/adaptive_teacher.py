"""When a teacher adapts, how far it goes, and how well it still does."""
from typing import Any

from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.nn.parallel import DistributedDataParallel

from mmkd_atsc.errors.checks import TrainingStopped, check_flag, check_number, nearest
from mmkd_atsc.registry import HOOKS
from mmkd_atsc.runtime.model_wrappers import rewrap_model, unwrap_model

from .start_check import BEFORE_TRAINING
from .warmup import check_has_epochs


@HOOKS.register_module()
class AdaptiveTeacherHook(Hook):
    r"""Lets the teacher adapt between two epochs, or iterations, and watches it.

    Before ``start`` and from ``stop`` on the teacher is frozen as it is then, which is SimKD's step. While it adapts,
    its drift :math:`\lVert\theta-\theta^*\rVert/\lVert\theta^*\rVert` is logged as ``teacher/drift`` and, for each
    stage of the encoder, ``teacher/drift/<stage>``; several teachers have names of their own in place of 'teacher'. A
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

    # Before the logger, which takes the drift of the same iteration.
    priority = 'NORMAL'

    def __init__(self, start: int | None = None, stop: int | None = None, interval: int = 100,
                 min_teacher_accuracy: float | None = None, metric: str = 'accuracy/top1',
                 by_epoch: bool = True) -> None:
        self.start = start if start is None else check_number('start', start, 0, integer=True)
        self.stop = stop if stop is None else check_number('stop', stop, (start or 0) + 1, integer=True)
        self.interval = check_number('interval', interval, 1, integer=True)
        if min_teacher_accuracy is not None:
            check_number('min_teacher_accuracy', min_teacher_accuracy, 0, 100)
        self.min_teacher_accuracy = min_teacher_accuracy
        self.metric = metric
        self.by_epoch = check_flag('by_epoch', by_epoch)
        self._warned: set[str] = set()

    def is_active(self, done: int) -> bool:
        """Whether the teacher adapts after so many epochs or iterations."""
        return done >= (self.start or 0) and (self.stop is None or done < self.stop)

    def before_train(self, runner: Runner) -> None:
        check_has_epochs(self, runner)
        model = unwrap_model(runner)
        if not getattr(model, 'adaptive', False):
            what = type(model).__name__ + (' with adaptive=False' if hasattr(model, 'set_adapting') else '')
            raise TypeError(f'AdaptiveTeacherHook needs an AdaptiveTeacherDistill whose teacher adapts, not a {what}')
        end, unit = (runner.max_epochs, 'epochs') if self.by_epoch else (runner.max_iters, 'iterations')
        if self.start is None:
            self.start = end // 2
        if self.start >= end:
            runner.logger.warning(f'AdaptiveTeacherHook: start={self.start} is never reached in {end} {unit}, the '
                                  'teacher does not adapt')
        if self.min_teacher_accuracy is not None and not getattr(runner.val_loop, 'teachers', False):
            raise ValueError('min_teacher_accuracy needs a validation of the teacher: '
                             "val_cfg=dict(type='mmkd_atsc.DistillValLoop', teachers=True)")

    def before_train_epoch(self, runner: Runner) -> None:
        if self.by_epoch:
            self._set_adapting(runner, self.is_active(runner.epoch), f'epoch {runner.epoch + 1}')

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        if not self.by_epoch:
            self._set_adapting(runner, self.is_active(runner.iter), f'iteration {runner.iter + 1}')

    @staticmethod
    def _set_adapting(runner: Runner, active: bool, when: str) -> None:
        if unwrap_model(runner).adapting == active:
            return
        unwrap_model(runner).set_adapting(active)
        runner.logger.info(f'the teacher {"adapts from" if active else "is frozen in"} {when} on')
        if is_model_wrapper(runner.model):
            if not active:
                # Its batch norm has counted other images in each process, and from now on runs on those statistics:
                # all take those of the process that saves.
                for buffer in unwrap_model(runner).teachers.buffers():
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
                key = f'{name}/drift' if stage == 'total' else f'{name}/drift/{stage}'
                runner.message_hub.update_scalar(f'train/{key}', drift)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        metrics = metrics or {}
        self._warn_of_losses(runner, metrics)
        if self.min_teacher_accuracy is None:
            return
        for name in getattr(unwrap_model(runner), 'teachers', ()):
            key, measured = f'{name}/{self.metric}', [m for m in metrics if m.startswith(f'{name}/')]
            if not measured:  # not its turn
                continue
            if key not in measured:
                raise ValueError(f'metric={self.metric!r}: the validation gives {", ".join(measured)}, no {key}'
                                 f'{nearest(key, measured)}')
            value = metrics[key]
            when = f'in epoch {runner.epoch}' if self.by_epoch else f'at iteration {runner.iter}'
            if value < self.min_teacher_accuracy:
                raise TrainingStopped(f'{key} fell to {value:.2f} {when}, below '
                                      f'min_teacher_accuracy={self.min_teacher_accuracy}: the teacher has collapsed; '
                                      'raise anchor_weight or lower the learning rate')

    def _warn_of_losses(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Warns once of each teacher that is more than a point below what it was when training began."""
        start = runner.message_hub.runtime_info.get(BEFORE_TRAINING, {})
        for name in getattr(unwrap_model(runner), 'teachers', ()):
            key = f'{name}/{self.metric}'
            if name in self._warned or key not in metrics or key not in start or metrics[key] >= start[key] - 1:
                continue
            self._warned.add(name)
            runner.logger.warning(
                f'{key} fell from {start[key]:.2f} before training to {metrics[key]:.2f}: the teacher comes down to '
                'meet its student; raise anchor_weight, lower teacher_lr_mult, or let the teacher adapt later (start)')
