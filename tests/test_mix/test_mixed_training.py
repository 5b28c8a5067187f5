"""What people train with, beside each method: every setting does for the distillation what it does without it."""
import copy

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample
from torch.nn import functional as F

import mmkd_atsc.engine  # noqa: F401
from mmkd_atsc.models.aggregate import labels_of
from tests.conftest import tiny_classifier
from tests.test_models.test_losses.aekt_cases import aekt_loss

METHODS = ('aekt', 'atsc')
each_method = pytest.mark.parametrize('method', METHODS)
PREPROCESSOR = dict(type='mmpretrain.ClsDataPreprocessor', mean=[127.5] * 3, std=[64.0] * 3, num_classes=10)
VIT = dict(type='mmpretrain.VisionTransformer', img_size=32, patch_size=8, arch=dict(
    embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16))


def networks(method, augments=None, loss=None, vit=False):
    """The configs of a student and a teacher; what the classifier learns from is the teacher's loss in ATSC."""
    student, teacher = tiny_classifier(4), tiny_classifier(8)
    if loss is not None:
        student['head']['loss'] = teacher['head']['loss'] = dict(loss)
    if augments:
        student['train_cfg'] = dict(augments=augments)
    channels = 8
    if vit:
        channels = 16
        student['backbone'] = dict(VIT, out_type='cls_token' if method == 'aekt' else 'featmap')
        student['neck'], student['head']['in_channels'] = None, channels
    if method == 'atsc':
        student['neck'] = dict(type='mmkd_atsc.FeatureProjector', in_channels=channels, out_channels=16)
        student['head'] = dict(type='mmkd_atsc.SharedClassifierHead')
    return student, teacher


def algorithm(method, student, teacher, **options):
    kind, distiller = dict(
        aekt=('MultiTeacherDistill', dict(type='mmkd_atsc.AEKTDistiller', num_classes=10)),
        atsc=('AdaptiveTeacherDistill', dict(type='mmkd_atsc.ATSCDistiller')))[method]
    return dict(type=f'mmkd_atsc.{kind}', architecture=student, teacher=teacher, distiller=distiller,
                allow_random_teacher=True, **options)


def build(method, to_onehot=False, **settings):
    torch.manual_seed(0)
    model = MODELS.build(dict(algorithm(method, *networks(method, **settings)),
                              data_preprocessor=dict(PREPROCESSOR, to_onehot=to_onehot)))
    model.init_weights()
    return model.train()


def optimizer(model, **options):
    sgd = dict(type='SGD', lr=0.1, weight_decay=0.01)
    return build_optim_wrapper(model, dict(
        dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor', optimizer=sgd), **options))


def batch(size=8):
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(10, (size, ), generator=generator).tolist()
    return dict(inputs=torch.randint(256, (size, 3, 32, 32), generator=generator).float(),
                data_samples=[DataSample().set_gt_label(label) for label in labels])


def steps(model, wrapper, count=2):
    """Steps by MMEngine's own ``train_step``; all that learns must move, and nothing be nan."""
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    for _ in range(count):
        log = model.train_step(batch(), wrapper)
        assert all(value.isfinite().all() for value in log.values())
    stuck = [name for name, p in model.named_parameters() if name in before and torch.equal(before[name], p)]
    assert not stuck, stuck
    return log


def label_losses(model, method, data):
    """The losses in which labels count, and the logits that they are computed from."""
    losses = model(**data, mode='loss')
    with torch.no_grad():
        teacher = model.first_teacher(data['inputs'])
        if method == 'atsc':
            return {'teacher.loss': losses['teacher.loss']}, teacher, None
        student = model.student(data['inputs'])
    return {key: losses[key] for key in ('student.loss', 'distill.loss_aekt')}, student, teacher


def smoothed(logits, labels):
    return F.cross_entropy(logits, labels, label_smoothing=0.1)


def binary(logits, labels):
    return F.binary_cross_entropy_with_logits(logits, labels.float(), reduction='sum') / len(logits)


MIXUP, CUTMIX = dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)
SMOOTH = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original')
BCE = dict(type='mmpretrain.CrossEntropyLoss', use_sigmoid=True)
LABEL_SETTINGS = {
    'cutmix': (dict(augments=[CUTMIX]), F.cross_entropy),
    'binary cross-entropy': (dict(loss=BCE, to_onehot=True), binary),
    'label smoothing, mixup or cutmix': (dict(loss=SMOOTH, augments=[MIXUP, CUTMIX]), smoothed),
}


@each_method
@pytest.mark.parametrize('setting', LABEL_SETTINGS)
def test_labels_count_as_the_students_own_training_counts_them(setting, method):
    settings, own_loss = LABEL_SETTINGS[setting]
    model = build(method, **settings)
    data = model.data_preprocessor(batch(), True)
    labels = labels_of(data['data_samples'])
    assert ('augments' in settings) == (labels.dim() == 2 and bool((labels.amax(1) < 1).any()))
    losses, logits, teacher_logits = label_losses(model, method, data)
    if method == 'aekt':  # the layer is the identity still
        torch.testing.assert_close(losses.pop('distill.loss_aekt'), aekt_loss(logits, teacher_logits, labels))
    value, = losses.values()
    torch.testing.assert_close(value, own_loss(logits, labels), atol=1e-4, rtol=1e-4)
    steps(model, optimizer(model))


@each_method
def test_bfloat16_gives_nearly_the_same_losses_and_every_gradient(method):
    """What AmpOptimWrapper does, which MMEngine refuses without a GPU."""
    model = build(method, augments=[MIXUP])
    data = model.data_preprocessor(batch(), True)
    exact = {key: value.item() for key, value in model(**data, mode='loss').items() if 'loss' in key}
    with torch.autocast('cpu', torch.bfloat16):
        losses = {key: value for key, value in model(**data, mode='loss').items() if 'loss' in key}
    assert {value.dtype for value in losses.values()} == {torch.float32}
    assert {key: value.item() for key, value in losses.items()} == pytest.approx(exact, rel=0.05, abs=1e-3)
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)


@each_method
def test_accumulated_halves_are_one_whole_step(method):
    whole, halves = (build(method).eval() for _ in range(2))  # batch statistics would differ
    whole.train_step(batch(), optimizer(whole))
    wrapper, start = optimizer(halves, accumulative_counts=2), copy.deepcopy(halves.student.state_dict())
    for part in (slice(0, 4), slice(4, 8)):
        halves.train_step({key: value[part] for key, value in batch().items()}, wrapper)
    assert not torch.equal(start['backbone.conv1.weight'], halves.student.backbone.conv1.weight)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(halves.state_dict()[key], value, atol=1e-6, rtol=1e-4, msg=key)


def options_of(model, wrapper):
    """(learning rate, weight decay) of every parameter that learns, by its name."""
    by_id = {id(p): (group['lr'], group['weight_decay'])
             for group in wrapper.optimizer.param_groups for p in group['params']}
    return {name: by_id.pop(id(p)) for name, p in model.named_parameters() if p.requires_grad}


@each_method
def test_exemptions_from_weight_decay_hold_for_student_and_teacher(method):
    model = build(method)
    found = options_of(model, optimizer(model, paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys={'backbone.layer1': dict(lr_mult=0.5)})))
    norm, first, last = (found[f'architecture.backbone.{name}.weight'] for name in ('bn1', 'conv1', 'layer3.0.conv1'))
    assert (norm, first, last) == ((0.1, 0.0), (0.1, 0.01), (0.1, 0.01))
    assert found['architecture.backbone.layer1.0.conv1.weight'] == (0.05, 0.01)
    if method == 'aekt':
        assert found['distiller.connectors.fc.fc.weight'] == pytest.approx((0.001, 0.0))
        assert not any(name.startswith('teachers.') for name in found)
    else:
        assert found['teachers.teacher.model.backbone.bn1.bias'] == (0.1, 0.0)
        assert found['architecture.neck.layers.0.weight'] == (0.1, 0.01)


@each_method
def test_layer_wise_rates_are_the_students_alone(method):
    model = build(method, vit=True)
    wrapper = optimizer(model, paramwise_cfg=dict(layer_decay_rate=0.5, flat_decay_mult=0.0))
    found = options_of(model, wrapper)
    for name, rate in (('pos_embed', 0.0125), ('layers.0.attn.qkv.weight', 0.025), ('layers.1.attn.qkv.weight', 0.05)):
        assert found[f'architecture.backbone.{name}'] == pytest.approx((rate, 0.01)), name
    assert found['architecture.backbone.layers.0.ln1.weight'] == pytest.approx((0.025, 0.0))
    if method == 'aekt':
        assert found['architecture.head.fc.weight'] == pytest.approx((0.1, 0.01))
        assert found['distiller.connectors.fc.fc.weight'] == pytest.approx((0.001, 0.0))
    else:
        assert found['architecture.neck.layers.0.weight'] == pytest.approx((0.1, 0.01))
        assert found['teachers.teacher.model.backbone.conv1.weight'] == (0.1, 0.01)
        assert found['teachers.teacher.model.head.fc.bias'] == (0.1, 0.0)
    assert len(wrapper.optimizer.param_groups) <= 10
    steps(model, wrapper)
