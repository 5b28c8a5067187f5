"""Records the labels of a batch, for losses that need them where no module of the student gets them."""
from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from torch import nn

from mmkd_atsc.registry import TASK_UTILS


@TASK_UTILS.register_module()
class LabelsRecorder(BaseRecorder):
    """Holds a batch's classes (N,), or its scores (N, C) where labels were mixed.

    In a config it is ``student_recorders=dict(labels=dict(type='mmkd_atsc.Labels'))`` (MMRazor adds ``Recorder``), for
    ATSC, whose student has no ``head.loss_module`` that could be recorded. :class:`MultiTeacherDistiller` fills it.
    """

    def __init__(self, source: str = 'the batch') -> None:
        super().__init__(source)

    def prepare_from_model(self, model: nn.Module | None = None) -> None:
        pass

    def get_record_data(self, record_idx: int = 0, data_idx: int | None = None) -> object:
        """The labels, whatever ``data_idx`` a mapping has for a loss module's inputs."""
        return super().get_record_data(record_idx)

    def fill(self, labels: object) -> None:
        self._data_buffer: list = [labels]
