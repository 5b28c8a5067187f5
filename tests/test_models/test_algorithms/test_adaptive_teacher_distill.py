"""ATSC against a plain PyTorch transcription of its maths, and what must not happen."""
import copy

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn
from torch.nn import functional as F

from tests.conftest import tiny_classifier
from tests.test_models.distillation import SGD, batches, optimizer_of


def student_config(teacher_channels=16, **neck):
    config = tiny_classifier(4)
    config['neck'] = dict(type='mmkd_atsc.FeatureProjector', in_channels=8, out_channels=teacher_channels, **neck)
    config['head'] = dict(type='mmkd_atsc.SharedClassifierHead')
    return config


PAPERS = dict(student_ce_weight=0.0, teacher_lr_mult=1.0)
PAPERS_LOSSES = dict(align_weight=1.0, normalize=False, anchor_weight=1.0, anchor_min_dims=2)


def build(checkpoint, distiller=None, student=None, **options):
    """With the papers' values, but for those that are given."""
    torch.manual_seed(0)
    model = MODELS.build({
        'type': 'mmkd_atsc.AdaptiveTeacherDistill', 'architecture': student or student_config(),
        'teacher': tiny_classifier(8), 'teacher_ckpt': checkpoint,
        'distiller': {'type': 'mmkd_atsc.ATSCDistiller', **PAPERS_LOSSES, **(distiller or {})}, **PAPERS, **options})
    model.init_weights()
    return model.train()


class AsTheyAre(nn.Module):
    """A data preprocessor that leaves double precision alone; MMPretrain's casts to float."""

    def forward(self, data, training=False):
        return data


class PlainATSC:
    """Steps (a) and (b) written out with two optimizers, as the authors' loop has them, without its mistakes."""

    def __init__(self, model, anchor_weight):
        parts = copy.deepcopy(model)
        self.student, self.projector = parts.student.backbone, parts.student.neck
        self.encoder, self.head = parts.teacher.backbone, parts.teacher.head
        for module in (self.student, self.projector, self.encoder, self.head):
            module.train()
        self.start = [p.detach().clone() for p in self.encoder.parameters()]
        self.anchor_weight = anchor_weight
        options = {k: v for k, v in SGD.items() if k != 'type'}
        self.first = torch.optim.SGD([p for module in (self.student, self.projector, self.encoder)
                                      for p in module.parameters()], **options)
        self.second = torch.optim.SGD(self.head.fc.parameters(), **options)

    def logits(self, features):
        return F.linear(features.mean((2, 3)), self.head.fc.weight, self.head.fc.bias)

    def step(self, images, labels, alternate):
        features = self.encoder(images)[-1]
        projected = self.projector(self.student(images))[-1]
        penalty = sum(((p - a) ** 2).sum() for p, a in zip(self.encoder.parameters(), self.start) if p.dim() > 1)
        loss = ((projected - features) ** 2).mean() + self.anchor_weight * penalty
        self.first.zero_grad()
        loss.backward()
        self.first.step()
        if alternate:  # a fresh forward of the changed encoder; the statistics are those of (a)
            saved = {k: b.clone() for k, b in self.encoder.named_buffers()}
            with torch.no_grad():
                features = self.encoder(images)[-1]
            for key, buffer in self.encoder.named_buffers():
                buffer.copy_(saved[key])
        self.second.zero_grad()
        F.cross_entropy(self.logits(features.detach()), labels).backward()
        self.second.step()


@pytest.mark.parametrize('classifier_step', ['joint', 'alternate'])
def test_ten_steps_follow_the_plain_transcription(teacher_checkpoint, classifier_step):
    model = build(teacher_checkpoint, dict(anchor_weight=0.3), classifier_step=classifier_step).double()
    model.data_preprocessor = AsTheyAre()
    plain = PlainATSC(model, anchor_weight=0.3)
    optim_wrapper = optimizer_of(model)
    for data, labels in batches(10):
        data['inputs'] = data['inputs'].double() / 64 - 2
        plain.step(data['inputs'], labels, classifier_step == 'alternate')
        model.train_step(data, optim_wrapper)
    start = torch.load(teacher_checkpoint, weights_only=True)['state_dict']
    assert not torch.allclose(model.teacher.backbone.conv1.weight.float(), start['backbone.conv1.weight'], atol=1e-3)
    for ours, theirs in ((model.student.backbone, plain.student), (model.student.neck, plain.projector),
                         (model.teacher.backbone, plain.encoder), (model.teacher.head, plain.head)):
        torch.testing.assert_close(ours.state_dict(), theirs.state_dict(), atol=1e-5, rtol=1e-5)


def test_every_parameter_is_used_and_is_in_the_optimizer_once(teacher_checkpoint, batch):
    model = build(teacher_checkpoint)
    losses = model(*batch, mode='loss')
    assert set(losses) == {'distill.loss_align', 'distill.loss_anchor', 'teacher.loss'}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    listed = [p for group in optimizer_of(model).param_groups for p in group['params']]
    assert len(listed) == len({id(p) for p in listed}) == len(list(model.parameters()))


def test_one_teacher_forward_and_one_backward_a_step(teacher_checkpoint, monkeypatch):
    model = build(teacher_checkpoint)
    forwards, backwards = [], []
    for module in (model.teacher.backbone, model.teacher.head, model.student.backbone, model.student.neck):
        module.register_forward_hook(lambda module, *_: forwards.append(module))
    backward = torch.Tensor.backward
    monkeypatch.setattr(torch.Tensor, 'backward', lambda *args, **kw: (backwards.append(1), backward(*args, **kw))[1])
    data, _ = next(batches(1))
    model.train_step(data, optimizer_of(model))
    assert len(forwards) == 4 and len(set(forwards)) == 4 and len(backwards) == 1


def test_frozen_it_is_simkd(teacher_checkpoint, batch):
    model = build(teacher_checkpoint, adaptive=False)
    before = {key: value.clone() for key, value in model.teachers.state_dict().items()}
    wrapper = optimizer_of(model)
    listed = {id(p) for group in wrapper.param_groups for p in group['params']}
    assert listed == {id(p) for p in model.student.parameters()}
    log = model.train_step(next(batches(1))[0], wrapper)
    assert set(log) == {'loss', 'distill.loss_align'}
    assert all(torch.equal(before[key], value) for key, value in model.teachers.state_dict().items())
    assert not any(module.training for teacher in model.teachers.values() for module in teacher.modules())


def test_nothing_is_saved_twice(teacher_checkpoint):
    keys = list(build(teacher_checkpoint).state_dict())
    assert not [key for key in keys if key.startswith('architecture.head')]
    assert len([key for key in keys if key.endswith('head.fc.weight')]) == 1
    assert not [key for key in keys if 'anchor' in key]


@pytest.mark.parametrize('change, error, words', [
    (dict(classifier_step='jiont'), ValueError, "did you mean 'joint'"),
    (dict(distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=10)), TypeError, 'needs an ATSCDistiller'),
    (dict(architecture=tiny_classifier(4)), TypeError, 'not GlobalAveragePooling and LinearClsHead'),
])
def test_wrong_configs_are_refused_at_build(teacher_checkpoint, change, error, words):
    config = dict(type='mmkd_atsc.AdaptiveTeacherDistill', architecture=student_config(), teacher=tiny_classifier(8),
                  teacher_ckpt=teacher_checkpoint)
    with pytest.raises(error, match=words):
        MODELS.build({**config, **change})


def test_alternate_does_not_go_with_accumulation(teacher_checkpoint):
    model = build(teacher_checkpoint, classifier_step='alternate')
    with pytest.raises(ValueError, match='accumulative_counts'):
        model.train_step(next(batches(1))[0], optimizer_of(model, accumulative_counts=2))


def test_a_teacher_is_not_anchored_to_weights_it_did_not_begin_with(teacher_checkpoint, batch):
    saved = build(teacher_checkpoint).state_dict()
    scored = build(None, allow_random_teacher=True)
    scored.load_state_dict(saved)
    scored.eval()(*batch, mode='predict')  # as tools/test.py does
    with pytest.raises(ValueError, match='began with a teacher that is not given.*set teacher_ckpt'):
        scored.train()(*batch, mode='loss')


def test_alternate_trains_on_one_process_only_but_is_scored_on_several(teacher_checkpoint, batch, monkeypatch):
    from mmkd_atsc.models.algorithms import adaptive_teacher_distill
    monkeypatch.setattr(adaptive_teacher_distill, 'get_world_size', lambda: 2)
    model = build(teacher_checkpoint, classifier_step='alternate')
    assert len(model.eval()(*batch, mode='predict')) == 4
    with pytest.raises(ValueError, match='trains on one process only'):
        model.train()(*batch, mode='loss')
