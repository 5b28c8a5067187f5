"""The labels of a batch, for losses that need them where no module of the student sees them."""

from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from torch import nn

from mmkd_atsc.registry import TASK_UTILS


@TASK_UTILS.register_module()
class LabelsRecorder(BaseRecorder):
    """Holds a batch's classes (N,), or its scores (N, C) where labels were mixed.

    In a config ``student_recorders=dict(labels=dict(type='mmkd_atsc.Labels'))``, for MMRazor adds the ``Recorder``. The
    student of ATSC computes no loss of its own, so there is no ``head.loss_module`` whose inputs could be recorded. It
    listens to nothing: a :class:`MultiTeacherDistiller` (which every distiller of ours is) fills it.

    >>> import torch
    >>> recorder = LabelsRecorder()
    >>> recorder.fill(torch.tensor([3, 1]))
    >>> recorder.get_record_data()
    tensor([3, 1])
    """

    def __init__(self, source: str = 'the batch') -> None:
        super().__init__(source)

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        pass

    def fill(self, labels: object) -> None:
        """Takes the labels of the batch at hand in place of the last one's."""
        self._data_buffer: list = [labels]
