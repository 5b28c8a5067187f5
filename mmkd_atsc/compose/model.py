"""The ``model`` of a config: a student, its teachers, a method."""
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from mmengine.config import Config

from mmkd_atsc.registry import short_name

from .given import Named, Place, num_classes, teacher_names
from .surroundings import has_foreign_constructor
from .text import Changed, Code, assignment, comment

METHODS = ('aekt', 'atsc')

# What the authors of DKD and of ATSC chose for small images (CIFAR) and for large ones (ImageNet).
SMALL = dict(aekt=dict(tau=4.0, beta=8.0), atsc=dict(anchor_weight=1.0))
LARGE = dict(aekt=dict(tau=1.0, beta=0.5), atsc=dict(anchor_weight=10.0))

# Options of a projector that need not be said.
DEFAULTS = dict(spatial=True, out_size=None, final_relu=True)

EXPORT = 'export its student first (tools/export_student.py), and give DIR/student.py'

# Networks without a module `head`: where their logits are, and the labels that their loss sees.
WHOLE_NETWORKS = {'TimmClassifier': dict(logits='model', labels='loss_module')}


class Pair:
    """A student and its teachers.

    Args:
        student, teachers: As the user named them.
        whole: The config to inherit.
        size: Height and width of the images.
        small: Settings are those for small images.
        place: Where the config is going to lie.
        inherits: The student is the inherited config's model, or that model's student.
        allow_random: Teachers need no checkpoints.
    """

    def __init__(self, student: Union[str, dict], whole: Config, teachers: Sequence[Named], size: Tuple[int, int],
                 small: bool, place: Place, inherits: bool, allow_random: bool) -> None:
        from mmkd_atsc.models.build import resolve_network  # not at import: it takes MMRazor's seconds
        self.student, self.whole, self.size, self.place, self.inherits = student, whole, size, place, inherits
        self.is_distillation = inherits and 'architecture' in whole.model
        self.source = resolve_network(whole.model.architecture if self.is_distillation else student, 'student')
        self.teachers = dict(zip(teacher_names(teachers), teachers))
        self.small, self.allow_random = small, allow_random
        self.sources = {}
        for name, teacher in self.teachers.items():
            try:
                network = dict(cfg_path=teacher.config, pretrained=True) if self._from_zoo(teacher) else teacher.config
                self.sources[name] = resolve_network(network, name)
            except AssertionError:  # MMEngine's, for a metafile without weights
                self.sources[name] = resolve_network(teacher.config, name)
            if not (teacher.checkpoint or self.sources[name].weights or allow_random):
                raise ValueError(f'{teacher.stem}: a teacher needs a checkpoint, no model zoo publishes one for it')
        for named, source in zip((Named(student), *teachers), (self.source, *self.sources.values())):
            if 'architecture' in source.model:
                raise ValueError(f'{named.stem}: is a distillation, a classifier is needed: {EXPORT}')
        self.num_classes = self._common_classes()

    def lines(self, method: str) -> List[str]:
        """The lines of the config."""
        settings = (SMALL if self.small else LARGE)[method]
        algorithm, remark = 'MultiTeacherDistill', []
        if method == 'aekt':
            distiller = dict(type='mmkd_atsc.AEKTDistiller', num_classes=self.num_classes, **settings)
            if has_foreign_constructor(self.whole):
                remark = [comment('No layer after the logits: this constructor would not let it learn slowly.')]
                distiller['with_fc'] = False
            distiller.update(self._recorders())
            architecture = self._architecture()
        else:
            algorithm, distiller = 'AdaptiveTeacherDistill', dict(type='mmkd_atsc.ATSCDistiller', **settings)
            remark = [comment(f"The projector was fitted with an image of {self.size[0]}x{self.size[1]}; the "
                              "classifier is the teacher's.")]
            architecture = self._architecture(*self._projector_and_head())
        return [*remark, assignment('model', dict(
            _delete_=True, type=f'mmkd_atsc.{algorithm}', architecture=architecture, **self._teaching(),
            distiller=distiller))]

    def _common_classes(self) -> int:
        """The number of classes; a teacher that answers another question is refused, as far as configs tell."""
        known = {Named(self.student).stem: num_classes(self.source.model)}
        known.update((self.teachers[name].stem, num_classes(source.model)) for name, source in self.sources.items())
        counts = {count for count in known.values() if count is not None}
        if len(counts) != 1:
            found = ', '.join(f'{name} {"none" if count is None else count}' for name, count in known.items())
            raise ValueError(f'student and teachers must have one number of classes (num_classes), not {found}')
        return counts.pop()

    def _projector_and_head(self) -> List[dict]:
        from mmkd_atsc.models.build import build_network
        from mmkd_atsc.models.fit import fit_projector
        student = build_network(self.source, 'student')
        fits = {}
        for name, source in self.sources.items():
            fit = fit_projector(student, build_network(source, name), self.size)
            fits[name] = {key: value for key, value in fit.items() if (key, value) not in DEFAULTS.items()}
        if len(fits) == 1:
            return [dict(type='mmkd_atsc.FeatureProjector', **next(iter(fits.values()))),
                    dict(type='mmkd_atsc.SharedClassifierHead')]
        return [dict(type='mmkd_atsc.MultiFeatureProjector', projectors=fits),
                dict(type='mmkd_atsc.MultiClassifierHead', aggregate='mean_prob')]

    def _architecture(self, neck: Optional[dict] = None, head: Optional[dict] = None) -> Any:
        """The student: the inherited one or its own; a neck and a head replace those it has."""
        changes: Dict[str, Any] = {} if head is None else dict(neck=neck, head=head)
        own = '_base_.model.architecture' if self.is_distillation else '_base_.model'
        has_path = isinstance(self.student, str) and not self.inherits
        if self.is_distillation:
            has_path = 'cfg_path' in self.whole.model.architecture
        if has_path:  # what stands beside a cfg_path is merged with what that config has
            changes = {key: dict(_delete_=True, **part) if key in self.source.model else part
                       for key, part in changes.items()}
        if not self.inherits:
            return {**self.place.network(self.student), **changes}
        if self.whole.get('load_from') and not self.is_distillation:  # it would not fit the distillation
            if head is None:
                changes['init_cfg'] = dict(type='Pretrained', checkpoint=Code('_base_.load_from'))
            else:  # of the checkpoint's head nothing is left
                start = dict(type='Pretrained', checkpoint=Code('_base_.load_from'), prefix='backbone.')
                changes['backbone'] = Changed(f'{own}.backbone', init_cfg=start)
        return Changed(own, **changes) if changes else Code(own)

    def _from_zoo(self, teacher: Named) -> bool:
        """Whether a teacher is to come with the weights of its model zoo."""
        in_zoo = isinstance(teacher.config, str) and '::' in teacher.config
        return in_zoo and not (teacher.checkpoint or self.allow_random)

    def _teaching(self) -> Dict[str, Any]:
        """The teachers, and where their weights are."""
        networks = {}
        for name, teacher in self.teachers.items():
            networks[name] = dict(self.place.network(teacher.config))
            if self._from_zoo(teacher):
                networks[name]['pretrained'] = True
        checkpoints = {name: teacher.checkpoint for name, teacher in self.teachers.items()}
        options: Dict[str, Any] = dict(teacher=networks)
        if any(checkpoints.values()):
            options['teacher_ckpt'] = checkpoints
        if len(networks) == 1:
            options = {key: next(iter(value.values())) for key, value in options.items()}
        return dict(options, allow_random_teacher=True) if self.allow_random else options

    def _recorders(self) -> Dict[str, Any]:
        """Where logits and labels are, for networks without a module ``head`` of their own."""
        recorders: Dict[str, Any] = {}
        student = _whole_network(self.source.model)
        head = self.source.model.get('head') or {}
        kind = short_name(head.get('type'))
        if kind == 'SharedClassifierHead' and head.get('classifier'):  # an exported student's
            student = dict(logits='head.classifier.head', labels='head.classifier.head.loss_module')
        elif kind in ('SharedClassifierHead', 'MultiClassifierHead'):
            way = f': {EXPORT}, with --base' if kind == 'SharedClassifierHead' else ''
            raise ValueError(f'{Named(self.student).stem}: aekt needs a student with a head of its own, no {kind}{way}')
        if student:
            recorders['student_recorders'] = dict(
                logits=dict(type='mmrazor.ModuleOutputs', source=student['logits']),
                labels=dict(type='mmrazor.ModuleInputs', source=student['labels']))
        sources = {name: _whole_network(source.model).get('logits', 'head') for name, source in self.sources.items()}
        if set(sources.values()) != {'head'}:
            source = sources if len(sources) > 1 else next(iter(sources.values()))
            recorders['teacher_recorders'] = dict(logits=dict(type='mmrazor.ModuleOutputs', source=source))
        return recorders


def _whole_network(model: dict) -> Dict[str, str]:
    return WHOLE_NETWORKS.get(short_name(model.get('type')), {})
