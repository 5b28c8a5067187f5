"""Saves checkpoints so that a run has a whole one at every moment."""
import inspect
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from mmkd_atsc.checkpoints.atomic_file import UNFINISHED, AtomicBackend, write_whole
from mmkd_atsc.errors.checks import TrainingStopped, check_keys, nearest
from mmkd_atsc.registry import HOOKS


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``; after a kill, a power failure or a full disk there is a checkpoint that loads.

    MMEngine's hook first removes the checkpoint that ``max_keep_ckpts`` has no room for, and writes in place. This one
    writes to another name, renames, and then removes, so the disk holds one checkpoint more for a moment. The next
    start in a folder removes unfinished files. Arguments are MMEngine's; so is remote storage (``backend_args``).

    >>> AtomicCheckpointHook(max_keep_ckpts=1, save_best='accuracy/top1').interval
    1
    """

    file_backend: Any  # MMEngine's hook sets it before training

    is_atomic = False

    def __init__(self, interval: int = 1, *args, **kwargs) -> None:
        check_keys('checkpoint hook', kwargs, inspect.signature(CheckpointHook).parameters)
        super().__init__(interval, *args, **kwargs)

    def before_train(self, runner: Runner) -> None:
        super().before_train(runner)
        self.is_atomic = self.file_client_args is None and isinstance(self.file_backend, LocalBackend)
        if not self.is_atomic:
            return
        # By this name the runner's save_checkpoint finds the same backend.
        self.backend_args = dict(backend='mmkd_atomic', folder=self.out_dir)
        self.file_backend = AtomicBackend(self.out_dir)
        if is_main_process():
            for folder in {Path(self.out_dir), Path(runner.work_dir)}:
                for path in folder.glob(f'*{UNFINISHED}'):
                    path.unlink()
                    runner.logger.info(f'{path}, which a killed run left unfinished, is removed')

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        if not self.is_atomic:
            return super()._save_checkpoint_with_step(runner, step, meta)
        if self.max_keep_ckpts > 0 and step not in list(self.keep_ckpt_ids)[-1:]:
            steps = [*self.keep_ckpt_ids, step]
            # The new checkpoint lists the old one too, so that a run killed before its removal does it on resuming.
            runner.message_hub.update_info('keep_ckpt_ids', steps)
            self.keep_ckpt_ids.append(step)  # the oldest drops out
            for old in steps[:-self.max_keep_ckpts] if is_main_process() else ():
                self.file_backend.remove(self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(old)))
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(self.out_dir, filename, None, save_optimizer=self.save_optimizer,
                               save_param_scheduler=self.save_param_scheduler, meta=meta, by_epoch=self.by_epoch,
                               backend_args=self.backend_args, **self.args)
        if is_main_process():
            write_whole(Path(runner.work_dir, 'last_checkpoint'), self.last_ckpt.encode())
        self._remove_outdated(runner)

    def _remove_outdated(self, runner: Runner) -> None:
        best = getattr(self, 'best_ckpt_path_dict', {})
        self.file_backend.remove_noted({self.last_ckpt, getattr(self, 'best_ckpt_path', None), *best.values()})
        if self.max_keep_ckpts > 0:
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        for key in getattr(self, 'key_indicators', ()):
            if key != 'auto' and key not in metrics:
                raise TrainingStopped(f'save_best={key!r}: the validation gives {", ".join(metrics)}'
                                      f'{nearest(key, metrics)}')
        super()._save_best_checkpoint(runner, metrics)
        if self.is_atomic:  # where no other checkpoints are saved, nothing has been removed yet
            self._remove_outdated(runner)
