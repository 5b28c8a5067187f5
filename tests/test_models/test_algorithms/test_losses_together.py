"""Losses beside ATSC's own: AEKT's on the logits, and MMRazor's on features."""
import copy
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn import functional as F

from tests.conftest import ROOT, tiny_classifier
from tests.test_models.distillation import batches, optimizer_of
from tests.test_models.test_algorithms.test_adaptive_teacher_distill import AsTheyAre
from tests.test_models.test_losses.test_aekt_formula import reference
from tests.test_runtime.test_step_graph import SHARED

METHOD = Config.fromfile(ROOT / 'configs' / '_base_' / 'methods' / 'atsc_aekt_cifar100.py').model


def build(distiller, teacher=None, **options):
    return MODELS.build(dict(
        type='mmkd_atsc.AdaptiveTeacherDistill', architecture=SHARED, teacher=teacher or tiny_classifier(8),
        allow_random_teacher=True, distiller=dict(distiller, type='mmkd_atsc.ATSCDistiller'), **options)).train()


def gradients(loss, parts):
    """The gradients of the parameters that learn from a loss, by their names."""
    named = {f'{part}.{name}': parameter for part, module in parts.items()
             for name, parameter in module.named_parameters() if parameter.requires_grad}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {name: gradient for name, gradient in zip(named, found) if gradient is not None}


def parts_of(model):
    return dict(encoder=model.student.backbone, projector=model.student.neck, fc=model.distiller.connectors['fc'],
                teacher=model.teacher.backbone, classifier=model.teacher.head)


@pytest.mark.parametrize('warmup', [1.0, 0.25])
def test_of_atsc_and_aekt_at_once_each_part_gets_the_gradient_of_its_own_losses(warmup):
    """In float64, against both methods' formulas; the warm-up scales AEKT's alone."""
    model = build(METHOD.distiller, student_ce_weight=0.5).double()
    model.data_preprocessor = AsTheyAre()
    with torch.no_grad():  # anywhere but at the start
        for parameter in [*model.distiller.connectors.parameters(), *model.teacher.parameters()]:
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.teacher.head.fc.weight.mul_(30)
    model.distiller.distill_losses['loss_aekt'].loss_weight = warmup
    plain, (data, labels) = copy.deepcopy(model), next(batches(1))
    images = data['inputs'].double() / 64 - 2
    losses = model(images, data['data_samples'], mode='loss')
    found = gradients(sum(value for name, value in losses.items() if 'loss' in name), parts_of(model))

    parts = parts_of(plain)
    feature, projected = parts['teacher'](images)[-1], parts['projector'](parts['encoder'](images))[-1]
    weight, bias = parts['classifier'].fc.weight, parts['classifier'].fc.bias
    z = F.linear(projected.mean((2, 3)), weight.detach(), bias.detach())
    u, v = parts['fc'](z), F.linear(feature.detach().mean((2, 3)), weight, bias)
    ratio = ((v / 4).softmax(1) / (u / 4).softmax(1))[range(8), labels]
    assert ratio.min() < 2 < ratio.max()
    _, slopes = reference(u.detach().numpy(), v.detach().numpy(), labels.numpy(), topk=2, tau=4, alpha=1, beta=8,
                          gamma=1, form='ratio', limit=2)
    aekt = (u * torch.from_numpy(slopes.astype(float))).sum() / 8  # with the formula's gradient on u
    anchor, = plain.distiller.anchors.values()
    expected = gradients(((projected - feature)**2).mean() + anchor() + 0.5 * F.cross_entropy(z, labels)
                         + F.cross_entropy(v, labels) + warmup * aekt, parts)
    assert found.keys() == expected.keys() and {name.split('.')[0] for name in found} == parts.keys()
    torch.testing.assert_close(found, expected, atol=1e-10, rtol=1e-8)


def test_aekts_layer_asks_for_its_own_learning_rate_in_any_distiller():
    model = build(METHOD.distiller)
    layer = model.distiller.connectors['fc']
    assert torch.equal(layer.fc.weight, torch.eye(10))  # ten classes: those of the networks
    group, = [group for group in optimizer_of(model).optimizer.param_groups if layer.fc.weight in set(group['params'])]
    assert group['lr'] == pytest.approx(0.0005) and group['weight_decay'] == 0 and len(group['params']) == 2


FEATURES, PREDS = ('s_feature', 't_feature'), ('preds_S', 'preds_T')
MAPS = dict(in_channel=16, out_channel=16)
# The names of its arguments, its connectors, and whether it has a gradient for the teacher at all.
LOSSES = {
    'ATLoss': (FEATURES, {}, True), 'OFDLoss': (FEATURES, {}, True), 'ABLoss': (FEATURES, {}, False),
    'L1Loss': (FEATURES, {}, True), 'L2Loss': (FEATURES, dict(student=dict(type='ConvModuleConnector', **MAPS)), True),
    'FTLoss': (FEATURES, dict(student=dict(type='Translator', **MAPS),
                              teacher=dict(type='Paraphraser', phase='train', **MAPS)), False),
    'KLDivergence': (PREDS, {}, False), 'ChannelWiseDivergence': (PREDS, {}, True),
    'PKDLoss': (PREDS, {}, True),
    'MGDLoss': (PREDS, dict(student=dict(type='MGDConnector', student_channels=16, teacher_channels=16)), True),
    'DistanceWiseRKD': (PREDS, {}, True), 'AngleWiseRKD': (PREDS, {}, True),
    'FBKDLoss': (('s_input', 't_input'), dict(student=dict(type='FBKDStudentConnector', in_channels=16),
                                              teacher=dict(type='FBKDTeacherConnector', in_channels=16)), True)}


def with_loss(kind, **student_reads):
    """A distiller's options; ``teacher_reads`` among the others are more of the teacher's record."""
    (student, teacher), connectors, _ = LOSSES[kind]
    on_logits = kind == 'KLDivergence'
    sources, read = (('head', 'head'), {}) if on_logits else (('neck', 'backbone'), dict(data_idx=0))
    student_read, teacher_read = ({'recorder': 'read', **read, **({'connector': role} if role in connectors else {})}
                                  for role in ('student', 'teacher'))
    teacher_read.update(student_reads.pop('teacher_reads', {}))
    student_recorders, teacher_recorders = (dict(read=dict(type='ModuleOutputs', source=one)) for one in sources)
    return dict(
        student_recorders=student_recorders, teacher_recorders=teacher_recorders, connectors=connectors,
        distill_losses=dict(loss_added=dict(type=kind, **(dict(teacher_detach=False) if on_logits else {}))),
        loss_forward_mappings=dict(loss_added={student: {'from_student': True, **student_read, **student_reads},
                                               teacher: {'from_student': False, **teacher_read}}))


def test_the_page_lists_the_losses_that_are_tested():
    rows = [row.split('|')[1:5] for row in (ROOT / 'configs' / 'mix' / 'README.md').read_text().splitlines()
            if row.startswith('| `') and '| yes | yes | learns' in row]
    listed = {name: 'nothing' not in last for names, *_, last in rows for name in re.findall(r'`(\w+)`', names)}
    assert listed == {kind: teaches for kind, (*_, teaches) in LOSSES.items() if kind != 'KLDivergence'}


@pytest.mark.parametrize('kind', LOSSES)
def test_mmrazors_feature_losses_teach_the_student_and_the_teacher_only_where_told(kind):
    def learners(read, **options):
        model, (data, _) = build(with_loss(kind, teacher_reads=read), **options), next(batches(1))
        losses = model(data['inputs'], data['data_samples'], mode='loss')
        found = gradients(losses['distill.loss_added'], dict(model.named_children()))
        assert all(gradient.isfinite().all() for gradient in found.values())
        before = model.student.backbone.conv1.weight.detach().clone()
        model.train_step(data, optimizer_of(model))
        assert not torch.equal(model.student.backbone.conv1.weight, before)
        return {name.split('.')[0] for name, gradient in found.items() if gradient.any()}

    _, connectors, teaches = LOSSES[kind]
    student = {'architecture', 'distiller'} if connectors else {'architecture'}
    assert learners({}) == learners({}, adaptive=False) == student
    assert learners(dict(detach=False)) == (student | {'teachers'} if teaches else student)


def test_of_two_teachers_each_is_compared_with_its_own_projection():
    teachers = dict(wide=tiny_classifier(8), narrow=tiny_classifier(6))
    model, (data, _) = build(with_loss('AngleWiseRKD', data_idx='teacher'), teachers), next(batches(1))
    losses = model(data['inputs'], data['data_samples'], mode='loss')
    projectors = dict(model.student.neck.projectors.items())
    for name in projectors:
        assert {key.split('.')[0] for key in gradients(losses[f'distill.{name}.loss_added'], projectors)} == {name}
