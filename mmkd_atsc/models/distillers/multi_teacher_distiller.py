"""MMRazor's configurable distiller for any number of teachers."""
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from mmengine.logging import print_log
from mmrazor.models.distillers import ConfigurableDistiller
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_number, nearest
from mmkd_atsc.recorders import LabelsRecorder, MultiTeacherRecorder
from mmkd_atsc.registry import MODELS, short_name

from ..aggregate import aggregate_logits, labels_of

# What an entry of a loss mapping may say: the arguments of MultiTeacherDistiller.get_record.
RECORD_OPTIONS = ('recorder', 'from_student', 'record_idx', 'data_idx', 'connector', 'connector_idx', 'teacher')
TEACHER_AGGREGATES = ('mean_prob', 'mean_logit', 'confidence')


@MODELS.register_module()
class MultiTeacherDistiller(ConfigurableDistiller):
    """MMRazor's ``ConfigurableDistiller`` whose teacher recorders listen to every teacher.

    Options, recorders, connectors and losses are MMRazor's. An entry of a loss mapping that reads a teacher may say
    which one:

    - ``teacher='all'``, the default: the loss is applied to each teacher, and averaged by the teachers' weights. The
      log has a line for each, ``resnet110.loss_kd``, which holds its share of the average.
    - ``teacher='resnet110'`` (a name) or ``teacher=0`` (its place): this one alone.
    - ``teacher='mean_prob'``, ``'mean_logit'`` or ``'confidence'``: one answer of all, for records that are logits
      (:func:`aggregate_logits`); ``'confidence'`` trusts each teacher, for each sample, by its probability of the
      true class.

    Where the student has an answer for each teacher, ``data_idx='teacher'`` takes the one that belongs to the teacher
    at hand, by the teachers' order; and any value may be a dict by the teachers' names, such as
    ``connector=dict(resnet110='to_256', vgg13='to_512')``.

    Args:
        student_recorders, teacher_recorders, connectors, distill_losses, loss_forward_mappings: As in MMRazor. A
            teacher's recorder may have ``source=dict(resnet110='backbone.layer3', vgg13='backbone.stage4')``.
        distill_deliveries: As in MMRazor; with one teacher only.

    >>> import mmkd_atsc
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

    def __init__(self, student_recorders: dict | None = None, teacher_recorders: dict | None = None,
                 distill_deliveries: dict | None = None, connectors: dict | None = None,
                 distill_losses: dict | None = None, loss_forward_mappings: dict | None = None,
                 init_cfg: dict | None = None) -> None:
        super().__init__(
            student_recorders=student_recorders,
            teacher_recorders={name: in_every_teacher(config) for name, config in (teacher_recorders or {}).items()},
            distill_deliveries=distill_deliveries, connectors=connectors, distill_losses=distill_losses,
            loss_forward_mappings=loss_forward_mappings, init_cfg=init_cfg)
        self.teacher_names: list[str] = []
        self.teacher_weights: dict[str, float] = {}
        self.idle: list[str] = []  # teachers that no loss reads

    def prepare_from_teacher(self, model: nn.Module) -> None:
        self.prepare_from_teachers({'teacher': model})

    def prepare_from_teachers(self, teachers: dict[str, nn.Module], weights: dict[str, float] | None = None) -> None:
        """Lets the recorders listen to the teachers, and learns how much each of them counts (None: alike)."""
        self.teacher_names = list(teachers)
        total = sum(weights.values()) if weights else len(teachers)
        self.teacher_weights = {name: (weights[name] if weights else 1.0) / total for name in teachers}
        if len(teachers) > 1 and self.deliveries.deliveries:
            raise ValueError(f'distill_deliveries ({", ".join(self.deliveries.deliveries)}) hand what one teacher did '
                             f'to the student, {len(teachers)} teachers are given ({", ".join(teachers)})')
        check_mapping_options(self.loss_forward_mappings, RECORD_OPTIONS)
        self.loss_forward_mappings = {loss: {argument: self._checked(loss, argument, record)
                                             for argument, record in mapping.items()}
                                      for loss, mapping in self.loss_forward_mappings.items()}
        self._check_use()
        self.teacher_recorders.initialize(teachers)

    @contextmanager
    def listen_to(self, teacher: str) -> Iterator[None]:
        """While this teacher runs, what it does is recorded, and nothing else."""
        with ExitStack() as stack:
            for recorder in self.teacher_recorders.recorders.values():
                stack.enter_context(recorder.of(teacher))
            yield

    def compute_distill_losses(self, data_samples: Sequence | None = None) -> dict[str, Any]:
        """The losses of what was recorded, by MMRazor's mappings; ``data_samples`` are those of the batch.

        An entry that is the same for all teachers is read, and passed through its connector, once.
        """
        labels = labels_of(data_samples) if data_samples and self.reads_labels else None
        for recorder in self.student_recorders.recorders.values():
            if isinstance(recorder, LabelsRecorder) and labels is not None:
                recorder.fill(labels)
        losses: dict[str, Any] = {}
        for name, mapping in self.loss_forward_mappings.items():
            common = {argument: self.get_record(**record, labels=labels) for argument, record in mapping.items()
                      if not differs(record)}
            losses.update(self.log_arguments(name, common))
            teachers = self._teachers_of(name)
            for teacher in teachers:
                own = {argument: self.get_record(**self._for_teacher(record, teacher))
                       for argument, record in mapping.items() if argument not in common}
                terms = self.run_loss(name, {**common, **own}, teacher)
                if len(teachers) > 1:
                    share = self.loss_share(name, teacher)
                    terms = {f'{teacher}.{key}': weighted(key, value, share) for key, value in terms.items()}
                losses.update(terms)
        return losses

    @property
    def reads_labels(self) -> bool:
        """Whether a recorder or a mapping needs the labels of the batch."""
        return any(isinstance(recorder, LabelsRecorder) for recorder in self.student_recorders.recorders.values()) or \
            any(record.get('teacher') == 'confidence' for mapping in self.loss_forward_mappings.values()
                for record in mapping.values())

    def run_loss(self, name: str, arguments: dict[str, Any], teacher: str | None) -> dict[str, Any]:
        """One loss for one teacher (None: one answer of all), and what is to be logged with it."""
        return {name: self.distill_losses[name](**arguments)}

    def log_arguments(self, name: str, arguments: dict[str, Any]) -> dict[str, Tensor]:
        """What is to be logged of a loss's arguments that are the same for all teachers."""
        return {}

    def loss_share(self, name: str, teacher: str) -> float:
        """The factor of a loss that is applied to each teacher."""
        return self.teacher_weights[teacher]

    def get_record(self, recorder: str, from_student: bool, record_idx: int = 0, data_idx: int | None = None,
                   connector: str | None = None, connector_idx: int | None = None,
                   teacher: str | None = None, labels: Tensor | None = None) -> Any:
        """MMRazor's, with the teacher whose record it is, or the way in which those of all are combined."""
        if from_student or teacher is None:
            return super().get_record(recorder, from_student, record_idx, data_idx, connector, connector_idx)
        source = self.teacher_recorders.get_recorder(recorder)
        if teacher not in TEACHER_AGGREGATES:
            record = source.of(teacher).get_record_data(record_idx, data_idx)
        else:
            record = self._aggregate(recorder, teacher, labels,
                                     [source.of(name).get_record_data(record_idx, data_idx)
                                      for name in self.teacher_names])
        if connector:
            record = self.connectors[connector](record)
        return record if connector_idx is None else record[connector_idx]

    def _aggregate(self, recorder: str, how: str, labels: Tensor | None, records: Sequence[Any]) -> Tensor:
        for name, record in zip(self.teacher_names, records):
            if not isinstance(record, Tensor) or record.dim() != 2:
                what = f'of shape {tuple(record.shape)}' if isinstance(record, Tensor) else type(record).__name__
                raise TypeError(f"teacher={how!r} combines logits (N, C), but {recorder} of {name} is {what}; "
                                "use teacher='all'")
        if how == 'confidence' and labels is None:
            raise ValueError("teacher='confidence' needs the labels, which MultiTeacherDistill hands on; "
                             "use teacher='mean_prob' with another algorithm")
        weights = [self.teacher_weights[name] for name in self.teacher_names]
        if labels is not None:
            labels = labels.to(records[0].device) if how == 'confidence' else None
        return aggregate_logits(records, how, weights, labels)

    def _teachers_of(self, loss: str) -> list[Any]:
        """The teachers that a loss is applied to: all, a named one, or None where no single one is meant."""
        mapping = self.loss_forward_mappings[loss]
        asked = list(dict.fromkeys(record['teacher'] for record in mapping.values()
                                   if record.get('teacher') not in (None, *TEACHER_AGGREGATES)))
        if len(asked) > 1:
            raise ValueError(f'{loss} asks for different teachers at once: {", ".join(map(repr, asked))}')
        if asked:
            return self.teacher_names if asked == ['all'] else asked
        if any(map(differs, mapping.values())):
            raise ValueError(f"{loss} has a value for each teacher, but reads no teacher's record with teacher='all' "
                             'or a name')
        return [None]

    def _check_loss_forward_mappings(self, losses: nn.ModuleDict, mappings: dict[str, dict], *recorders: Any) -> None:
        # MMRazor's check knows no values by teacher; the names in them are looked at when the teachers are known.
        plain = {loss: {argument: {key: next(iter(value.values())) if isinstance(value, dict) and value else value
                                   for key, value in record.items()} for argument, record in mapping.items()}
                 for loss, mapping in mappings.items()}
        super()._check_loss_forward_mappings(losses, plain, *recorders)

    def _for_teacher(self, record: dict, teacher: str) -> dict:
        record = {key: value[teacher] if isinstance(value, dict) else value for key, value in record.items()}
        if 'teacher' in record:
            record['teacher'] = teacher if record['teacher'] not in TEACHER_AGGREGATES else record['teacher']
        if record.get('data_idx') == 'teacher':
            record['data_idx'] = self.teacher_names.index(teacher)
        return record

    def _check_use(self) -> None:
        """Finds teachers that no loss reads, and refuses losses that several teachers would share a memory of."""
        read: set[str | None] = set()
        for loss, mapping in self.loss_forward_mappings.items():
            teachers = self._teachers_of(loss)
            asks_all = any(record.get('teacher') in TEACHER_AGGREGATES for record in mapping.values())
            read.update(self.teacher_names if asks_all else teachers)
            if len(teachers) > 1 and any(True for _ in self.distill_losses[loss].buffers()):
                raise ValueError(f'{loss} ({type(self.distill_losses[loss]).__name__}) has a memory, which '
                                 f'{len(teachers)} teachers would share: give each a loss of its own, teacher=NAME')
        if len(self.teacher_names) > 1:
            self.idle = [name for name in self.teacher_names if name not in read]
        if self.idle:
            print_log(f'no loss reads {" and ".join(self.idle)}: not run in training', 'current', logging.WARNING)

    def _checked(self, loss: str, argument: str, record: dict) -> dict:
        """An entry of a mapping with the teacher by name, after a look at what it asks for."""
        record, where = dict(record), f'loss_forward_mappings: {loss}.{argument}'
        recorders = self.student_recorders if record['from_student'] else self.teacher_recorders
        for key, value in record.items():
            values = list(value.values()) if isinstance(value, dict) else [value]
            if key == 'recorder':
                for recorder in values:
                    check_choice(f'{where}: recorder', recorder, recorders.recorders)
            if key.endswith('_idx') and values != [None] and not (key == 'data_idx' and value == 'teacher'):
                for index in values:
                    check_number(f'{where}: {key}', index, integer=True)
            if isinstance(value, dict) and set(value) != set(self.teacher_names):
                raise ValueError(f'{where}: {key} is for {", ".join(value)}, the teachers are '
                                 f'{", ".join(self.teacher_names)}')
            if key == 'connector':
                for connector in value.values() if isinstance(value, dict) else [value]:
                    check_choice(f'{where}: connector', connector, self.connectors)
        if record['from_student']:
            if 'teacher' in record:
                raise ValueError(f"{where}: from_student=True has no teacher={record['teacher']!r}; "
                                 "the student's answer to each teacher is data_idx='teacher'")
            return record
        teacher = record.setdefault('teacher', 'all')
        if isinstance(teacher, int) and not isinstance(teacher, bool) and 0 <= teacher < len(self.teacher_names):
            record['teacher'] = self.teacher_names[teacher]
        else:
            check_choice(f'{where}: teacher', teacher, ('all', *TEACHER_AGGREGATES, *self.teacher_names))
        return record


def differs(record: dict) -> bool:
    """Whether an entry of a mapping is another one for each teacher.

    >>> differs(dict(recorder='logits', teacher='all')), differs(dict(recorder='logits', teacher='mean_prob'))
    (True, False)
    """
    return (record.get('teacher') not in (None, *TEACHER_AGGREGATES) or record.get('data_idx') == 'teacher'
            or any(isinstance(value, dict) for value in record.values()))


def weighted(key: str, value: Any, share: float) -> Any:
    """A loss times a teacher's share; what is only logged stays as it is. MMEngine tells them by their names.

    >>> weighted('loss_kd', 2.0, 0.5), weighted('ratio', 2.0, 0.5)
    (1.0, 2.0)
    """
    if 'loss' not in key or share == 1:
        return value
    return [share * part for part in value] if isinstance(value, (list, tuple)) else share * value


def check_mapping_options(mappings: dict[str, dict], known: Sequence[str] = RECORD_OPTIONS[:-1]) -> None:
    """Refuses what no distiller reads of a loss mapping's entry; by default what MMRazor's own does not.

    >>> check_mapping_options(dict(loss_kd=dict(preds_S=dict(recorder='logits', from_studnt=True))))
    Traceback (most recent call last):
    ValueError: loss_forward_mappings: loss_kd.preds_S has no option 'from_studnt'; did you mean 'from_student'?
    """
    for loss, mapping in mappings.items():
        for argument, record in mapping.items():
            for key in record:
                if key not in known:
                    raise ValueError(f'loss_forward_mappings: {loss}.{argument} has no option {key!r}'
                                     f'{nearest(key, known)}')


def in_every_teacher(recorder: dict) -> dict:
    """The config of MMRazor's recorder, turned into one that listens to each teacher.

    >>> in_every_teacher(dict(type='ModuleOutputs', source='head'))
    {'type': 'mmkd_atsc.MultiTeacher', 'kind': 'ModuleOutputs', 'source': 'head'}
    """
    recorder = dict(recorder)
    kind = recorder.pop('type')
    if short_name(kind) == MultiTeacherRecorder.__name__.replace('Recorder', ''):
        return dict(type=kind, **recorder)
    return dict(type='mmkd_atsc.MultiTeacher', kind=kind, **recorder)
