"""The student leaves when its training ends."""
import os.path as osp
from typing import Optional, Sequence, Union

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner
from mmengine.runner.checkpoint import find_latest_checkpoint

from mmkd_atsc.errors.checks import check_choice
from mmkd_atsc.errors.messages import describe
from mmkd_atsc.registry import HOOKS

from .config import student_config
from .formats import FORMATS
from .student import export_student


@HOOKS.register_module()
class ExportStudentHook(Hook):
    """Exports the student of the run's checkpoint after training, as ``tools/export_student.py`` does.

    What would keep it from being exported stops the run before its first step.

    Args:
        out_dir: Where to write; default: ``student`` in the work directory.
        formats: Some of 'onnx', 'torchscript', 'exported_program', beside MMPretrain's own.
        which: 'best' (by the ``CheckpointHook``'s ``save_best``) or 'last'.
        image_size: Side of the images, or height and width, where the config's test pipeline does not say it.

    >>> ExportStudentHook(formats=['onxn'])
    Traceback (most recent call last):
    ValueError: formats='onxn' is not one of 'onnx', 'torchscript', 'exported_program'; did you mean 'onnx'?
    """

    priority = 'LOWEST'  # after the last checkpoint is written

    def __init__(self, out_dir: Optional[str] = None, formats: Sequence[str] = (), which: str = 'best',
                 image_size: Union[None, int, str, Sequence[int]] = None) -> None:
        self.out_dir = out_dir
        self.formats = tuple(check_choice('formats', name, FORMATS) for name in formats)
        self.which = check_choice('which', which, ('best', 'last'))
        self.image_size = image_size

    def before_train(self, runner: Runner) -> None:
        savers = [hook for hook in runner.hooks if isinstance(hook, CheckpointHook)]
        if not savers:
            raise ValueError('ExportStudentHook needs a checkpoint to export, default_hooks has no CheckpointHook')
        if self.which == 'best' and not any(hook.save_best for hook in savers):
            raise ValueError("ExportStudentHook(which='best') needs default_hooks.checkpoint.save_best; "
                             "which='last' exports the last checkpoint")
        for name in self.formats:
            FORMATS[name].check_packages(name)
        student_config(runner.cfg, self.image_size)

    def after_train(self, runner: Runner) -> None:
        if not is_main_process():
            return
        best = [runner.message_hub.get_info(key) for key in runner.message_hub.runtime_info if 'best_ckpt' in key]
        checkpoint = best[0] if self.which == 'best' and best else find_latest_checkpoint(runner.work_dir)
        if checkpoint is None:
            runner.logger.warning('ExportStudentHook: the run has written no checkpoint, nothing is exported')
            return
        out_dir = self.out_dir or osp.join(runner.work_dir, 'student')
        try:
            report = export_student(runner.cfg, checkpoint, out_dir, self.formats, image_size=self.image_size)
        except Exception as error:  # the training is done and saved, which this must not make look like a failure
            runner.logger.error(f'{checkpoint} is not exported: {describe(error)}')
        else:
            runner.logger.info(f'exported {osp.basename(checkpoint)}:\n{report}')
