"""Records a source in every teacher."""
from typing import Any

from mmrazor.models.task_modules.recorder.base_recorder import BaseRecorder
from torch import nn

from mmkd_atsc.registry import TASK_UTILS

from .logits import find_source


@TASK_UTILS.register_module()
class MultiTeacherRecorder(BaseRecorder):
    """Has one of MMRazor's recorders for each teacher.

    In a config it is ``type='mmkd_atsc.MultiTeacher'`` (MMRazor adds ``Recorder``). A :class:`MultiTeacherDistiller`
    makes one of every plain recorder that it is given for its teachers.

    Args:
        source: MMRazor's source; a dict by the teachers' names where it differs.
        kind: MMRazor's recorder, without the word Recorder.
        options: Further options of that recorder.
    """

    def __init__(self, source: str | dict[str, str], kind: str = 'mmrazor.ModuleOutputs', **options: Any) -> None:
        super().__init__(source)
        self.kind = kind if '.' in kind else f'mmrazor.{kind}'  # MMRazor's configs name it without a prefix
        self.options = options
        self.recorders: dict[str, BaseRecorder] = {}

    def prepare_from_model(self, model: None | nn.Module | dict[str, nn.Module] = None) -> None:
        """Takes the teachers as a dict by name; a network alone is one called 'teacher'."""
        networks = model if isinstance(model, dict) else {'teacher': model}
        for name, network in networks.items():
            self.recorders[name] = TASK_UTILS.build(dict(
                type=f'{self.kind}Recorder', source=self.source_in(name, networks), **self.options))
            self.recorders[name].initialize(network)

    def source_in(self, teacher: str, teachers: dict[str, nn.Module]) -> str:
        """The source in a teacher of that name."""
        if isinstance(self.source, dict) and set(self.source) != set(teachers):
            raise ValueError(f'source is for {", ".join(self.source)}, the teachers are {", ".join(teachers)}')
        return find_source(teachers[teacher], self.source[teacher] if isinstance(self.source, dict) else self.source)

    def of(self, teacher: str) -> BaseRecorder:
        return self.recorders[teacher]

    def get_record_data(self, record_idx: int = 0, data_idx: int | None = None) -> Any:
        recorder, = self.recorders.values()  # of several teachers each has its own, by of()
        return recorder.get_record_data(record_idx, data_idx)

    def reset_data_buffer(self) -> None:
        for recorder in self.recorders.values():
            recorder.reset_data_buffer()

    def __enter__(self) -> None:
        super().__enter__()
        for recorder in self.recorders.values():
            recorder.__enter__()

    def __exit__(self, *error: Any) -> None:
        for recorder in self.recorders.values():
            recorder.__exit__(*error)
