"""MMRazor's configurable distiller for any number of teachers."""
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any, NamedTuple

from mmengine.logging import print_log
from mmrazor.models.distillers import ConfigurableDistiller
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from mmkd_atsc.errors.checks import check_choice, check_flag, check_number
from mmkd_atsc.recorders import LabelsRecorder, MultiTeacherRecorder
from mmkd_atsc.recorders.logits import count_classes, count_outputs, read_logits
from mmkd_atsc.registry import MODELS, class_of, short_name

from ..aggregate import aggregate_logits, labels_of
from ..connectors import SerializationFC
from ..param_groups import check_optimizer_at_first_step

TEACHER_AGGREGATES = ('mean_prob', 'mean_logit', 'confidence')


class LossInputs(NamedTuple):
    """The records that a loss reads: for each of its arguments, the arguments of ``get_record``."""

    shared: dict[str, dict]  # the same for all teachers
    by_teacher: dict[str, dict[str, dict]]  # the others; one empty entry without a name if there are none


@MODELS.register_module()
class MultiTeacherDistiller(ConfigurableDistiller):
    """MMRazor's ``ConfigurableDistiller`` whose teacher recorders listen to every teacher.

    An entry of a loss mapping that reads a teacher may name it:

    - ``teacher='all'``, the default: the loss is applied to each teacher and averaged by the teachers' weights. Each
      one's share of the average is logged, as ``resnet110.loss_kd``.
    - ``teacher='resnet110'`` (a name) or ``teacher=0`` (its place): this one alone.
    - ``teacher='mean_prob'``, ``'mean_logit'`` or ``'confidence'``: all logits combined by :func:`aggregate_logits`.

    If the student has an answer for each teacher, ``data_idx='teacher'`` takes the one at the teacher's place.
    ``detach=True`` keeps the loss's gradient from who is read.

    Args:
        student_recorders, teacher_recorders, connectors, distill_losses, loss_forward_mappings: As in MMRazor. A
            teacher's recorder may have ``source=dict(resnet110='backbone.layer3', vgg13='backbone.stage4')``.
        distill_deliveries: As in MMRazor; with one teacher only.

    >>> logits = dict(type='mmrazor.ModuleOutputs', source='head')
    >>> distiller = MultiTeacherDistiller(
    ...     student_recorders=dict(logits=logits), teacher_recorders=dict(logits=logits),
    ...     distill_losses=dict(loss_kd=dict(type='mmrazor.KLDivergence', tau=4)),
    ...     loss_forward_mappings=dict(loss_kd=dict(
    ...         preds_S=dict(from_student=True, recorder='logits'),
    ...         preds_T=dict(from_student=False, recorder='logits', teacher='mean_prob'))))
    >>> type(distiller.teacher_recorders.get_recorder('logits')).__name__
    'MultiTeacherRecorder'
    """

    loss_forward_mappings: dict[str, dict]
    num_classes: int | None = None

    def __init__(self, student_recorders: dict | None = None, teacher_recorders: dict | None = None,
                 distill_deliveries: dict | None = None, connectors: dict | None = None,
                 distill_losses: dict | None = None, loss_forward_mappings: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(
            student_recorders, {name: in_every_teacher(config) for name, config in (teacher_recorders or {}).items()},
            distill_deliveries, connectors, distill_losses, loss_forward_mappings, init_cfg=init_cfg)
        self.teacher_names: list[str] = []
        self.teacher_weights: dict[str, float] = {}
        self.loss_inputs: dict[str, LossInputs] = {}
        self.read: set[str | None] = set()  # teachers, or combinations of them, that losses read
        self.idle: list[str] = []  # teachers that no loss reads

    def prepare_from_teacher(self, model: nn.Module) -> None:
        self.prepare_from_teachers({'teacher': model})

    def prepare_from_teachers(self, teachers: dict[str, nn.Module], weights: dict[str, float] | None = None) -> None:
        """Connects the recorders with the teachers. ``weights`` are in proportion to their sum; None: equal ones."""
        self.teacher_names = list(teachers)
        weights = weights or dict.fromkeys(teachers, 1.0)
        self.teacher_weights = {name: weights[name] / sum(weights.values()) for name in teachers}
        if len(teachers) > 1 and self.deliveries.deliveries:
            raise ValueError(f'distill_deliveries ({", ".join(self.deliveries.deliveries)}) hand what one teacher did '
                             f'to the student, {len(teachers)} teachers are given ({", ".join(teachers)})')
        self.loss_inputs = {loss: self._loss_inputs(loss, mapping)
                            for loss, mapping in self.loss_forward_mappings.items()}
        self.read = {record.get('teacher') for shared, by_teacher in self.loss_inputs.values()
                     for records in (shared, *by_teacher.values()) for record in records.values()}
        if len(teachers) > 1 and not self.read.intersection(TEACHER_AGGREGATES):
            self.idle = [name for name in teachers if name not in self.read]
        if self.idle:
            print_log(f'no loss reads {" and ".join(self.idle)}: not run in training', 'current', logging.WARNING)
        self.teacher_recorders.initialize(teachers)
        for layer in self.connectors.modules():
            if isinstance(layer, SerializationFC):
                first = next(iter(teachers.values()))
                layer.bind(self.num_classes or count_classes(first) or count_outputs(first))
        check_optimizer_at_first_step(self)  # in MMRazor's algorithms too

    def _loss_inputs(self, loss: str, mapping: dict[str, dict]) -> LossInputs:
        """Sorts what a loss reads into what it reads once and what it reads for each teacher."""
        entries = {argument: self._by_teacher(f'loss_forward_mappings: {loss}.{argument}', record)
                   for argument, record in mapping.items()}
        teachers = [name for name in self.teacher_names if all(name in entry for entry in entries.values())]
        if not teachers:
            raise ValueError(f'{loss} asks for different teachers at once')
        shared = {argument: entry[teachers[0]] for argument, entry in entries.items()
                  if all(entry[name] == entry[teachers[0]] for name in teachers)}
        if len(shared) == len(entries):
            return LossInputs(shared, {'': {}})
        module = self.distill_losses[loss]
        if any(True for _ in module.buffers()):
            raise ValueError(f'{loss} ({type(module).__name__}) has a memory, which {len(teachers)} teachers would '
                             'share: give each a loss of its own, teacher=NAME')
        return LossInputs(shared, {name: {argument: entry[name] for argument, entry in entries.items()
                                          if argument not in shared} for name in teachers})

    def _by_teacher(self, where: str, record: dict) -> dict[str, dict]:
        """An entry of a mapping as each teacher has it; only of the teacher that it names."""
        names, teacher, data_idx = self.teacher_names, record.get('teacher', 'all'), record.get('data_idx')
        if record['from_student'] and 'teacher' in record:
            raise ValueError(f"{where}: from_student=True has no teacher={teacher!r}; did you mean data_idx='teacher'?")
        check_flag(f'{where}: detach', record.get('detach', False))
        if data_idx not in (None, 'teacher'):
            check_number(f'{where}: data_idx', data_idx, integer=True)
        if type(teacher) is int and 0 <= teacher < len(names):  # True is no place
            teacher = names[teacher]
        check_choice(f'{where}: teacher', teacher, ('all', *TEACHER_AGGREGATES, *names))
        found = {}
        for place, name in enumerate(names):
            if teacher in (name, 'all', *TEACHER_AGGREGATES):
                whose = {} if record['from_student'] else dict(teacher=name if teacher == 'all' else teacher)
                found[name] = dict(record, data_idx=place if data_idx == 'teacher' else data_idx, **whose)
        return found

    @contextmanager
    def listen_to(self, teacher: str) -> Iterator[None]:
        """In this block the recorders listen to one teacher."""
        with ExitStack() as stack:
            for recorder in self.teacher_recorders.recorders.values():
                stack.enter_context(recorder.of(teacher))
            yield

    def compute_distill_losses(self, data_samples: Sequence | None = None) -> dict[str, Any]:
        """The losses of what was recorded, by the mappings; ``data_samples`` are those of the batch."""
        recorders = [recorder for recorder in self.student_recorders.recorders.values()
                     if isinstance(recorder, LabelsRecorder)]
        labels, losses = None, {}
        if data_samples and (recorders or 'confidence' in self.read):
            labels = labels_of(data_samples)
            for recorder in recorders:
                recorder.fill(labels)
        for name, (shared, by_teacher) in self.loss_inputs.items():
            arguments = {argument: self.get_record(**record, labels=labels) for argument, record in shared.items()}
            losses.update(self.log_arguments(name, arguments))
            for teacher, records in by_teacher.items():
                own = {argument: self.get_record(**record, labels=labels) for argument, record in records.items()}
                terms = self.run_loss(name, {**arguments, **own}, teacher or self.teacher_names[0])
                if teacher:
                    share = self.loss_share(name, teacher)
                    terms = {f'{teacher}.{key}': share * value if 'loss' in key and share != 1 else value
                             for key, value in terms.items()}
                losses.update(terms)
        return losses

    def run_loss(self, name: str, arguments: dict[str, Any], teacher: str) -> dict[str, Any]:
        """One loss for one teacher (the first for one answer of all), and what is logged with it."""
        return {name: self.distill_losses[name](**arguments)}

    def log_arguments(self, name: str, arguments: dict[str, Any]) -> dict[str, Tensor]:
        """What is logged of a loss's arguments that are the same for all teachers."""
        return {}

    def loss_share(self, name: str, teacher: str) -> float:
        """The factor of a loss that is applied to each teacher."""
        return self.teacher_weights[teacher]

    def get_record(self, recorder: str, from_student: bool, record_idx: int = 0, data_idx: int | None = None,
                   connector: str | None = None, connector_idx: int | None = None,
                   teacher: str | None = None, labels: Tensor | None = None, detach: bool = False) -> Any:
        """MMRazor's, of one teacher, or of all of them combined; with ``detach`` without its gradient."""
        recorders = self.student_recorders if from_student else self.teacher_recorders
        source, names = recorders.get_recorder(recorder), self.teacher_names
        sources = [source] if from_student else [
            source.of(name) for name in (names if teacher in TEACHER_AGGREGATES else [teacher])]
        record, *others = [read_logits(one.get_record_data(record_idx, data_idx)) for one in sources]
        if teacher in TEACHER_AGGREGATES:
            record = aggregate_logits([record, *others], teacher, list(self.teacher_weights.values()), labels)
        record = tree_map_only(Tensor, Tensor.detach, record) if detach else record
        if connector:
            record = self.connectors[connector](record)
        return record if connector_idx is None else record[connector_idx]


def with_defaults(options: dict, **defaults: dict[str, Any]) -> dict:
    """MMRazor's options, to which ``defaults`` add the entries that they do not have."""
    return {**options, **{name: {**entries, **(options.get(name) or {})} for name, entries in defaults.items()}}


def in_every_teacher(recorder: dict) -> dict:
    """The config of MMRazor's recorder, turned into one that listens to each teacher."""
    if short_name(recorder['type']) == MultiTeacherRecorder.__name__.removesuffix('Recorder'):
        return recorder
    recorder = dict(recorder)
    return dict(type='mmkd_atsc.MultiTeacher', kind=recorder.pop('type'), **recorder)


def check_mapping_keys(distiller: dict) -> None:
    """Refuses a misspelt key in the loss mappings of a distiller's config."""
    reads = getattr(class_of(distiller, 'mmrazor'), 'get_record', ConfigurableDistiller.get_record)
    known = [name for name in signature(reads).parameters if name not in ('self', 'labels')]
    for loss, mapping in (distiller.get('loss_forward_mappings') or {}).items():
        for argument, key in ((argument, key) for argument, record in mapping.items() for key in record):
            check_choice(f'loss_forward_mappings: {loss}.{argument}: key', key, known)
