"""Distillation from frozen teachers, one or several."""
import copy
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmrazor.models.algorithms import BaseAlgorithm
from mmrazor.models.task_modules import RecorderManager
from mmrazor.models.utils import add_prefix
from torch import Tensor, nn

from mmkd_atsc.checkpoints.read import check_teacher_names
from mmkd_atsc.errors.checks import check_flag, nearest
from mmkd_atsc.models.build import build_network
from mmkd_atsc.recorders import MultiTeacherRecorder
from mmkd_atsc.recorders.logits import count_classes, find_source
from mmkd_atsc.registry import MODELS, short_name

from ..distillers.multi_teacher_distiller import MultiTeacherDistiller, check_mapping_keys
from ..param_groups import check_optimizer_at_first_step
from ..teacher import Teacher, named_teachers


@MODELS.register_module()
class MultiTeacherDistill(BaseAlgorithm):
    """A student that learns from any number of frozen teachers by any MMRazor distiller.

    Unlike MMRazor's ``SingleTeacherDistill``, it needs a teacher's checkpoint and loads it strictly; a teacher runs in
    eval mode without gradients, computes no loss, and gets the images in its own normalisation.

    Args:
        architecture: The student: config dict, ``package::path``, config file, or a built model.
        teacher: The teacher likewise, a list of them (``teacher0``, ``teacher1``, ...), or a dict of named ones.
        distiller: Config of the distiller; for several teachers of a class derived from ``MultiTeacherDistiller``.
        teacher_ckpt: File or URL with the teacher's weights; a list or dict of them for several.
        teacher_weights: Weights of several teachers, a list or dict, in proportion to their sum. None: equal ones.
        allow_random_teacher: Accept teachers without a checkpoint, for tests.
        calculate_student_loss: Also train the student on its own loss.
        data_preprocessor: Default: the config's, or else the student's.
    """

    def __init__(self, architecture: dict | str | BaseModel, teacher: Any, distiller: dict,
                 teacher_ckpt: None | str | list | dict = None, allow_random_teacher: bool = False,
                 calculate_student_loss: bool = True, data_preprocessor: dict | nn.Module | None = None,
                 teacher_weights: None | list | dict = None, init_cfg: dict | None = None) -> None:
        student = build_network(architecture, 'student')
        parts = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or []
        if any(part.get('type') != 'Pretrained' for part in parts):
            raise ValueError(f"init_cfg={init_cfg!r} would overwrite the teachers' weights; put it into the student")
        super().__init__(student, build_preprocessor(data_preprocessor, student), init_cfg)
        check_flag('allow_random_teacher', allow_random_teacher)
        self.calculate_student_loss = check_flag('calculate_student_loss', calculate_student_loss)
        sources = named_teachers(teacher, teacher_ckpt, teacher_weights)
        self.teacher_weights = {name: source.weight for name, source in sources.items()}
        self.teachers = nn.ModuleDict({
            name: Teacher(source.network, source.checkpoint, self.data_preprocessor, allow_random_teacher, name)
            for name, source in sources.items()})
        counts = {name: teacher.num_classes for name, teacher in self.teachers.items()}
        if len(set(counts.values()) - {None}) > 1:
            raise ValueError('the teachers have different numbers of classes: '
                             + ', '.join(f'{name} {count}' for name, count in counts.items()))
        # As MMRazor does for the student: the next layer must not overwrite what a recorder holds.
        for module in self.teachers.modules():
            if hasattr(module, 'inplace'):
                module.inplace = False
        # MMRazor's recorders and losses are named without a prefix in its configs, whatever the default scope is.
        check_mapping_keys(distiller)
        with DefaultScope.overwrite_default_scope('mmrazor'):
            self.distiller = MODELS.build(copy.deepcopy(distiller))
        self.prepare_distiller()
        self.distillation_stopped = False  # MMRazor's StopDistillHook sets it

    @property
    def student(self) -> nn.Module:
        return self.architecture

    @property
    def teacher(self) -> nn.Module:
        """The (first) teacher's network, by the name that MMRazor's hooks look for."""
        return self.first_teacher.model

    @property
    def first_teacher(self) -> Teacher:
        return next(iter(self.teachers.values()))

    def prepare_distiller(self) -> None:
        """Connects the distiller's recorders with the networks."""
        networks = {name: teacher.model for name, teacher in self.teachers.items()}
        find_recorder_sources(self.distiller.student_recorders, {'student': self.student}, 'student')
        find_recorder_sources(self.distiller.teacher_recorders, networks, 'teacher')
        self.distiller.prepare_from_student(self.student)
        if isinstance(self.distiller, MultiTeacherDistiller):
            self.distiller.prepare_from_teachers(networks, self.teacher_weights)
        elif len(networks) == 1:
            self.distiller.prepare_from_teacher(self.teacher)
        else:
            raise ValueError(f'{type(self.distiller).__name__} records one teacher, {len(networks)} are given '
                             f"({', '.join(networks)}); type='mmkd_atsc.MultiTeacherDistiller' takes the same options")

    def train(self, mode: bool = True) -> 'MultiTeacherDistill':
        if mode:
            check_optimizer_at_first_step(self)
        return super().train(mode)

    def loss(self, inputs: Tensor, data_samples: list | None = None) -> dict[str, Tensor]:
        """The student's own loss and the distiller's, from one forward of each network."""
        for name, teacher in self.teachers.items():
            if name not in getattr(self.distiller, 'idle', ()):
                with self.recording_teacher(name):
                    teacher(inputs, data_samples)
        with self.recording_student():
            losses = add_prefix(self.student(inputs, data_samples, mode='loss'), 'student')
        return {**(losses if self.calculate_student_loss else {}), **self.distill_losses(data_samples)}

    @contextmanager
    def recording_teacher(self, name: str) -> Iterator[None]:
        """In this block the recorders listen to a teacher, and the deliveries record."""
        distiller = self.distiller
        distiller.set_deliveries_override(False)
        several = isinstance(distiller, MultiTeacherDistiller)
        with distiller.listen_to(name) if several else distiller.teacher_recorders, distiller.deliveries:
            yield

    @contextmanager
    def recording_student(self) -> Iterator[None]:
        """In this block the recorders listen to the student, and the deliveries hand it the teacher's records."""
        self.distiller.set_deliveries_override(True)
        with self.distiller.student_recorders, self.distiller.deliveries:
            yield

    def distill_losses(self, data_samples: list | None) -> dict[str, Any]:
        """The distiller's losses of what was recorded; then drops the records."""
        distiller, losses = self.distiller, {}
        if not self.distillation_stopped:
            given = (data_samples, ) if isinstance(distiller, MultiTeacherDistiller) else ()
            losses = add_prefix(distiller.compute_distill_losses(*given), 'distill')
        # Records hold memory, and tensors with a graph cannot be copied.
        for recorders in (distiller.student_recorders, distiller.teacher_recorders):
            for recorder in recorders.recorders.values():
                recorder.reset_data_buffer()
        return losses

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args) -> None:
        check_teacher_names(state_dict, self.teachers, f'{prefix}teachers.')
        super()._load_from_state_dict(state_dict, prefix, *args)


def find_recorder_sources(recorders: RecorderManager, networks: dict[str, nn.Module], role: str) -> None:
    """Finds the recorders' modules and parameters; refuses one that a network does not have, with the nearest."""
    for (name, recorder), (owner, network) in itertools.product(recorders.recorders.items(), networks.items()):
        several = isinstance(recorder, MultiTeacherRecorder)
        kind = short_name(recorder.kind) if several else type(recorder).__name__.replace('Recorder', '')
        if kind not in ('ModuleOutputs', 'ModuleInputs', 'Parameter'):  # MMRazor imports functions by their paths
            continue
        if several:
            source = recorder.source_in(owner, networks)
        else:
            source = recorder._source = find_source(network, recorder.source, as_tensor=role == 'teacher')
        named = network.named_parameters() if kind == 'Parameter' else network.named_modules()
        known = [path for path, _ in named]
        if source not in known or (role == 'student' and not source):  # which gives losses in training, no logits
            source = source or 'head'
            hint = nearest(source, known) or f'; it has {", ".join(path for path, _ in network.named_children())}'
            hint += "; type='mmkd_atsc.Labels' needs no source" if source == 'head.loss_module' else ''
            raise ValueError(f'{role}_recorders: {name} has source={source!r}, which the {owner} '
                             f'({type(network).__name__}) does not have{hint}')


def build_preprocessor(config: dict | nn.Module | None, student: BaseModel) -> nn.Module:
    """The algorithm's data preprocessor; it applies mixup and CutMix of the student's ``train_cfg``, as MMPretrain."""
    own = student.data_preprocessor
    if config is None:
        return own
    is_config, augments = isinstance(config, dict), getattr(own, 'batch_augments', None)
    built: nn.Module = MODELS.build({'type': 'mmpretrain.ClsDataPreprocessor', **config}) if is_config else config
    if augments is None or is_config and 'batch_augments' in config or getattr(built, 'batch_augments', None):
        return built
    if not hasattr(built, 'batch_augments'):
        raise ValueError(f"the student's batch augmentations would be lost: {type(built).__name__} has none, "
                         'use mmpretrain.ClsDataPreprocessor')
    # MMPretrain leaves them out silently where labels are not turned into scores.
    built.batch_augments, built.to_onehot = augments, True
    built.num_classes = built.num_classes or count_classes(student) or own.num_classes
    return built
