"""Exports the student at the end of its training."""
import os.path as osp
from collections.abc import Sequence

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import find_latest_checkpoint

from mmkd_atsc.errors.checks import TrainingStopped, check_choice
from mmkd_atsc.errors.messages import describe
from mmkd_atsc.registry import HOOKS
from mmkd_atsc.runtime.model_wrappers import unwrap_model

from .config import student_config
from .formats import FORMATS, check_packages
from .images import deployed_image_size
from .student import export_student


@HOOKS.register_module()
class ExportStudentHook(Hook):
    """Exports the student of the run's checkpoint after training, as ``tools/export_student.py`` does.

    A config that cannot be exported stops the run before its first step; an export that fails all the same ends it
    with an error, after the training is saved.

    Args:
        out_dir: Where to write; default: ``student`` in the work directory.
        formats: Some of 'onnx', 'torchscript', 'exported_program', beside MMPretrain's own.
        which: 'best' (by the ``CheckpointHook``'s ``save_best``; without it, the last) or 'last'.
        image_size: Side of the images, or height and width, where the config's test pipeline does not say it.

    >>> ExportStudentHook(formats=['onxn'])
    Traceback (most recent call last):
    ValueError: formats='onxn' is not one of 'onnx', 'torchscript', 'exported_program'; did you mean 'onnx'?
    """

    priority = 'LOWEST'  # after the last checkpoint is written

    def __init__(self, out_dir: str | None = None, formats: Sequence[str] = (), which: str = 'best',
                 image_size: int | tuple[int, int] | None = None) -> None:
        self.out_dir = out_dir
        self.formats = tuple(check_choice('formats', name, FORMATS) for name in formats)
        self.which = check_choice('which', which, ('best', 'last'))
        self.image_size = image_size

    def before_train(self, runner: Runner) -> None:
        check_packages(self.formats)
        exported = student_config(runner.cfg, self.image_size, unwrap_model(runner))
        if self.image_size is None:
            deployed_image_size(exported)

    def after_train(self, runner: Runner) -> None:
        if not is_main_process():
            return
        best = [runner.message_hub.get_info(key) for key in runner.message_hub.runtime_info if 'best_ckpt' in key]
        checkpoint = best[0] if self.which == 'best' and best else find_latest_checkpoint(runner.work_dir)
        out_dir = self.out_dir or osp.join(runner.work_dir, 'student')
        try:
            report = export_student(runner.cfg, checkpoint, out_dir, self.formats, image_size=self.image_size)
        except Exception as error:  # of a config, a disk or a format
            raise TrainingStopped(f'the training is done and saved, but {checkpoint} is not exported: '
                                  f'{describe(error)}') from error
        runner.logger.info(f'exported {osp.basename(checkpoint)}:\n{report}')
