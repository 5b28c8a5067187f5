"""What people train with, beside each method: every setting does for the distillation what it does without it."""
import copy

import pytest
import torch
from mmengine.registry import MODELS
from torch.nn import functional as F

from mmkd_atsc.models.aggregate import labels_of
from tests.conftest import tiny_classifier
from tests.test_models.distillation import batches, optimizer_of
from tests.test_models.test_losses.aekt_cases import aekt_loss

each_method = pytest.mark.parametrize('method', ['aekt', 'atsc'])
PREPROCESSOR = dict(type='mmpretrain.ClsDataPreprocessor', mean=[127.5] * 3, std=[64.0] * 3, num_classes=10)
VIT = dict(type='mmpretrain.VisionTransformer', img_size=32, patch_size=8, arch=dict(
    embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16))


def build(method, augments=None, loss=None, vit=False, to_onehot=False):
    """A tiny model; what the classifier learns from is the student's loss in AEKT and the teacher's in ATSC."""
    torch.manual_seed(0)
    student, teacher = tiny_classifier(4), tiny_classifier(8)
    if loss is not None:
        student['head']['loss'] = teacher['head']['loss'] = dict(loss)
    if augments:
        student['train_cfg'] = dict(augments=augments)
    if vit:
        student['backbone'] = dict(VIT, out_type='cls_token' if method == 'aekt' else 'featmap')
        student['neck'], student['head']['in_channels'] = None, 16
    if method == 'atsc':
        student.update(neck=dict(type='mmkd_atsc.FeatureProjector'), head=dict(type='mmkd_atsc.SharedClassifierHead'))
    options = dict(  # the papers' values
        aekt=dict(type='mmkd_atsc.MultiTeacherDistill',
                  distiller=dict(type='mmkd_atsc.AEKTDistiller', gamma=1.0, max_pull=None)),
        atsc=dict(type='mmkd_atsc.AdaptiveTeacherDistill', student_ce_weight=0.0, teacher_lr_mult=1.0,
                  distiller=dict(type='mmkd_atsc.ATSCDistiller', normalize=False)))[method]
    model = MODELS.build(dict(
        options, architecture=student, teacher=teacher, allow_random_teacher=True,
        data_preprocessor=dict(PREPROCESSOR, to_onehot=to_onehot)))
    model.init_weights()
    return model.train()


def optimizer(model, **options):
    return optimizer_of(model, optimizer=dict(type='SGD', lr=0.1, weight_decay=0.01), **options)


def batch():
    return next(batches(1))[0]


def take_steps(model, wrapper):
    """Two steps by MMEngine's own ``train_step``; all that learns must move, and nothing be nan."""
    before = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
    for _ in range(2):
        log = model.train_step(batch(), wrapper)
        assert all(value.isfinite().all() for value in log.values())
    assert [name for name, p in model.named_parameters() if name in before and torch.equal(before[name], p)] == []


MIXUP, CUTMIX = dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)
SMOOTH = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original')
BCE = dict(type='mmpretrain.CrossEntropyLoss', use_sigmoid=True)
LABEL_SETTINGS = {
    'cutmix': (dict(augments=[CUTMIX]), F.cross_entropy),
    'binary cross-entropy': (dict(loss=BCE, to_onehot=True), lambda logits, labels: (
        F.binary_cross_entropy_with_logits(logits, labels.float(), reduction='sum') / len(logits))),
    'label smoothing, mixup or cutmix': (dict(loss=SMOOTH, augments=[MIXUP, CUTMIX]), lambda logits, labels: (
        F.cross_entropy(logits, labels, label_smoothing=0.1))),
}


@each_method
@pytest.mark.parametrize('setting', LABEL_SETTINGS)
def test_labels_count_as_the_students_own_training_counts_them(setting, method):
    settings, own_loss = LABEL_SETTINGS[setting]
    model = build(method, **settings)
    data = model.data_preprocessor(batch(), True)
    labels = labels_of(data['data_samples'])
    assert ('augments' in settings) == (labels.dim() == 2 and bool((labels.amax(1) < 1).any()))
    losses = model(**data, mode='loss')
    with torch.no_grad():
        logits = teacher_logits = model.first_teacher(data['inputs'])
        if method == 'aekt':  # the layer is the identity still
            logits = model.student(data['inputs'])
            torch.testing.assert_close(losses['distill.loss_aekt'], aekt_loss(logits, teacher_logits, labels))
    found = losses['student.loss' if method == 'aekt' else 'teacher.loss']
    torch.testing.assert_close(found, own_loss(logits, labels), atol=1e-4, rtol=1e-4)
    take_steps(model, optimizer(model))


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


TEACHER, STUDENT, FC = 'teachers.teacher.model', 'architecture', 'distiller.connectors.fc.fc.weight'
# (learning rate, weight decay) by the parameter's name, with layer-wise rates of the student; each method's own.
RATES = {
    f'{STUDENT}.backbone.pos_embed': (0.0125, 0.01), f'{STUDENT}.backbone.layers.0.attn.qkv.weight': (0.025, 0.01),
    f'{STUDENT}.backbone.layers.0.ln1.weight': (0.025, 0.0),
    f'{STUDENT}.backbone.layers.1.attn.qkv.weight': (0.05, 0.01)}
OWN_RATES = {
    'aekt': {FC: (0.001, 0.0), f'{STUDENT}.head.fc.weight': (0.1, 0.01)},
    'atsc': {f'{TEACHER}.backbone.conv1.weight': (0.1, 0.01), f'{TEACHER}.head.fc.bias': (0.1, 0.0),
             f'{STUDENT}.neck.layers.0.weight': (0.1, 0.01)}}


@each_method
def test_rates_and_decays_are_those_that_the_config_says(method):
    model = build(method, vit=True)
    wrapper = optimizer(model, paramwise_cfg=dict(layer_decay_rate=0.5, flat_decay_mult=0.0))
    groups = wrapper.optimizer.param_groups
    by_id = {id(p): (group['lr'], group['weight_decay']) for group in groups for p in group['params']}
    found = {name: by_id.pop(id(p)) for name, p in model.named_parameters() if p.requires_grad}
    assert not by_id and len(groups) <= 10
    for name, expected in {**RATES, **OWN_RATES[method]}.items():
        assert found[name] == pytest.approx(expected), name
    assert any(name.startswith('teachers.') for name in found) == (method == 'atsc')
    take_steps(model, wrapper)
