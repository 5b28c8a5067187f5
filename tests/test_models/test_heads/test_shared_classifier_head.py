import copy
import pickle

import pytest
import torch
import torch.distributed as dist
from mmengine.registry import MODELS
from mmpretrain.models import ImageClassifier
from mmpretrain.models.heads import (
    ArcFaceClsHead,
    ClsHead,
    LinearClsHead,
    MultiLabelLinearClsHead,
    StackedLinearClsHead,
    VisionTransformerClsHead,
)
from mmpretrain.models.necks import GlobalAveragePooling, LinearNeck
from mmpretrain.structures import DataSample
from torch import nn

from mmkd_atsc.models import FeatureAlignLoss, FeatureProjector, SharedClassifierHead, TeacherAnchorLoss
from mmkd_atsc.models.classifier import last_feature, split_classifier

LINEAR = dict(type='LinearClsHead', num_classes=5, in_channels=8)
OWNED = dict(neck=dict(type='GlobalAveragePooling'), head=LINEAR)


def samples(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


def teachers():
    smooth = dict(type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=5)
    return {
        'linear': (GlobalAveragePooling(), LinearClsHead(5, 8, loss=smooth, cal_acc=True, topk=(1, 2))),
        'linear neck': (LinearNeck(8, 6, gap_dim=2), LinearClsHead(5, 6)),
        'stacked': (GlobalAveragePooling(), StackedLinearClsHead(5, 8, [6], norm_cfg=dict(type='BN1d'))),
        'vit': (GlobalAveragePooling(), VisionTransformerClsHead(5, 8, hidden_dim=6, init_cfg=None)),
        'arcface': (GlobalAveragePooling(), ArcFaceClsHead(5, 8)),
        'multi-label': (GlobalAveragePooling(), MultiLabelLinearClsHead(5, 8)),
    }


@pytest.mark.parametrize('name', teachers())
@pytest.mark.parametrize('training', [True, False])
def test_answers_as_the_teachers_own_network(name, training):
    torch.manual_seed(0)
    neck, teacher_head = teachers()[name]
    # On one feature the student's network is the teacher's.
    teacher = ImageClassifier(backbone=nn.Identity(), neck=neck, head=teacher_head).train(training)
    student = ImageClassifier(backbone=nn.Identity(), head=SharedClassifierHead()).train(training)
    student.head.bind(neck, teacher_head)
    features, data = (torch.randn(3, 8, 4, 4), ), samples(4, 0, 2)
    for mode in ('tensor', 'loss', 'predict'):
        expected = teacher(features, copy.deepcopy(data), mode=mode)
        got = student(features, copy.deepcopy(data), mode=mode)
        if mode == 'tensor':
            assert torch.equal(got, expected)
        elif mode == 'loss':
            assert set(got) == set(expected)
            assert torch.equal(got['loss'], expected['loss'])
        else:
            assert all(torch.equal(g.pred_score, e.pred_score) and torch.equal(g.pred_label, e.pred_label)
                       for g, e in zip(got, expected))
    assert torch.equal(student.extract_feat(features, stage='pre_logits'),
                       teacher.extract_feat(features, stage='pre_logits'))


def test_is_a_classification_head_by_name():
    head = MODELS.build(dict(type='mmkd_atsc.SharedClassifierHead'))
    assert isinstance(head, (SharedClassifierHead, ClsHead))
    head = MODELS.build(dict(type='mmkd_atsc.SharedClassifierHead', classifier=OWNED))
    assert head((torch.zeros(2, 8, 3, 3), )).shape == (2, 5)


def test_a_shared_classifier_is_not_registered_twice():
    teacher = LinearClsHead(5, 8)
    whole = nn.ModuleDict({'student': SharedClassifierHead(), 'teacher': teacher})
    whole['student'].bind(None, teacher)
    assert list(whole.state_dict()) == ['teacher.fc.weight', 'teacher.fc.bias']
    assert len(list(whole.parameters())) == 2
    teacher.eval()
    whole['student'].train()
    assert not teacher.training
    whole['student'].requires_grad_(False).double()
    assert teacher.fc.weight.requires_grad and teacher.fc.weight.dtype == torch.float32
    whole.double()
    assert whole['student']((torch.zeros(2, 8).double(), )).dtype == torch.float64


@pytest.mark.parametrize('detach', [True, False])
def test_the_students_loss_teaches_a_shared_classifier_only_when_asked(detach):
    neck, teacher = LinearNeck(8, 8), StackedLinearClsHead(5, 8, [6], norm_cfg=dict(type='BN1d'))
    head = SharedClassifierHead(detach=detach)
    head.bind(neck, teacher)
    features = torch.randn(3, 8, requires_grad=True)
    head.loss((features, ), samples(0, 1, 2))['loss'].backward()
    assert features.grad.abs().sum() > 0
    assert all((parameter.grad is None) == detach for module in (neck, teacher) for parameter in module.parameters())
    assert int(neck.norm.num_batches_tracked) == int(not detach)


def test_an_owned_classifier_learns():
    head = SharedClassifierHead(OWNED)
    head.loss((torch.randn(3, 8, 2, 2), ), samples(0, 1, 2))['loss'].backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert list(head.state_dict()) == ['classifier.head.fc.weight', 'classifier.head.fc.bias']


def test_rules_for_given_logits_are_the_classifiers():
    head, teacher = SharedClassifierHead(), MultiLabelLinearClsHead(5, 8, thr=0.9)
    head.bind(None, teacher)
    logits, data = torch.tensor([[3., 0., 3., 0., 0.]]), samples([0, 2])
    assert head._get_predictions(logits, None)[0].pred_label.tolist() == [0, 2]
    assert torch.equal(head._get_loss(logits, data)['loss'], teacher._get_loss(logits, data)['loss'])


def test_deepcopy_of_the_whole_shares_the_copied_teacher():
    for order in (('student', 'teacher'), ('teacher', 'student')):
        parts = {'student': SharedClassifierHead(), 'teacher': LinearClsHead(5, 8)}
        parts['student'].bind(None, parts['teacher'])
        whole = nn.ModuleDict({name: parts[name] for name in order})
        for twin in (copy.deepcopy(whole), pickle.loads(pickle.dumps(whole))):
            assert twin['student'].bound_classifier.head is twin['teacher']
            assert twin['teacher'] is not parts['teacher']
            for parameter in twin['teacher'].parameters():
                nn.init.zeros_(parameter)
            assert parts['student']((torch.ones(1, 8), )).abs().sum() > 0
            assert twin['student']((torch.ones(1, 8), )).abs().sum() == 0


@pytest.mark.parametrize('config', [OWNED, None])
def test_release(config):
    torch.manual_seed(0)
    neck, teacher = GlobalAveragePooling(), LinearClsHead(5, 8).double().eval()
    head = SharedClassifierHead()
    head.bind(neck, teacher)
    released = head.release(config)
    features = (torch.randn(2, 8, 3, 3, dtype=torch.float64), )
    assert torch.equal(released(features), head(features))
    assert not released.classifier.head.training
    # A copy: it stays what it is when the teacher goes on.
    before = released(features)
    teacher.fc.weight.data.zero_()
    assert torch.equal(released(features), before)
    rebuilt = SharedClassifierHead(OWNED).double()
    rebuilt.load_state_dict(released.state_dict(), strict=True)
    assert torch.equal(rebuilt(features), before)
    assert list(head.state_dict()) == []


def test_release_refuses_a_config_of_another_classifier():
    head = SharedClassifierHead()
    head.bind(None, LinearClsHead(6, 8))
    with pytest.raises(ValueError, match=r'2 weights differ in name or shape \(head.fc.bias, head.fc.weight\)'):
        head.release(dict(head=LINEAR))
    with pytest.raises(ValueError, match='differ in name or shape'):
        head.release(dict(head=dict(type='StackedLinearClsHead', num_classes=6, in_channels=8, mid_channels=[8])))


def test_unbound_use_says_what_to_do():
    head = SharedClassifierHead()
    feats = (torch.zeros(1, 8), )
    for use in (head, head.pre_logits, head.predict, lambda f: head.loss(f, samples(0)), lambda f: head.release()):
        with pytest.raises(RuntimeError, match=r'call bind\(neck, head\)'):
            use(feats)


def test_binding_again_shares_the_new_teacher_and_an_owner_cannot_be_bound():
    head, first, second = SharedClassifierHead(), LinearClsHead(5, 8), LinearClsHead(7, 8)
    head.bind(None, first)
    head.bind(None, second)
    assert head((torch.zeros(1, 8), )).shape == (1, 7)
    with pytest.raises(RuntimeError, match='owns its classifier'):
        SharedClassifierHead(OWNED).bind(None, first)
    with pytest.raises(TypeError, match='not NoneType and Tensor'):
        head.bind(None, torch.zeros(1))


@pytest.mark.parametrize('kwargs, error, words', [
    (dict(classifier=dict(haed=LINEAR)), ValueError, "unknown key 'haed', it takes neck and head; did you mean 'head'"),
    (dict(classifier=dict(neck=None)), ValueError, 'classifier needs a head'),
    (dict(classifier=[LINEAR]), TypeError, 'not a list'),
    (dict(classifier=dict(head=dict(type='ClsHead'))), ValueError, 'neither neck nor head .ClsHead. has parameters'),
    (dict(detach='yes'), TypeError, "detach='yes'"),
])
def test_bad_arguments(kwargs, error, words):
    with pytest.raises(error, match=words):
        SharedClassifierHead(**kwargs)


class JointStep(nn.Module):
    """One step of the method from the parts alone: what an algorithm has to do with them."""

    def __init__(self):
        super().__init__()
        self.student = ImageClassifier(backbone=nn.Conv2d(3, 4, 3), neck=FeatureProjector(4, 8),
                                       head=SharedClassifierHead())
        self.teacher = ImageClassifier(backbone=nn.Conv2d(3, 8, 3), neck=GlobalAveragePooling(),
                                       head=LinearClsHead(5, 8))
        self.align, self.anchor = FeatureAlignLoss(), TeacherAnchorLoss()
        self.encoder, self.neck, self.head = split_classifier(self.teacher)
        self.student.head.bind(self.neck, self.head)
        self.anchor.bind(self.encoder)

    def forward(self, images, data):
        seen = last_feature(self.encoder(images))
        projected = self.student.neck((self.student.backbone(images), ))
        loss = self.align(projected, seen) + self.anchor() + self.student.head.loss(projected, data)['loss']
        return loss + self.head.loss(self.neck((seen.detach(), )), data)['loss']


def test_every_parameter_learns_under_ddp(tmp_path):
    torch.manual_seed(0)
    dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(JointStep(), find_unused_parameters=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        images, data = torch.randn(4, 3, 6, 6), samples(0, 1, 2, 3)
        losses = []
        for _ in range(5):  # a parameter without gradient would stop the second step
            optimizer.zero_grad()
            losses.append(model(images, data))
            losses[-1].backward()
            assert all(p.grad is not None for p in model.parameters())
            optimizer.step()
        assert losses[-1] < losses[0]
    finally:
        dist.destroy_process_group()


def test_the_released_student_is_the_trained_one():
    torch.manual_seed(0)
    step = JointStep().eval()
    images = torch.randn(2, 3, 6, 6)
    with torch.no_grad():
        expected = step.student.head(step.student.neck((step.student.backbone(images), )))
    deployed = ImageClassifier(backbone=nn.Conv2d(3, 4, 3), neck=FeatureProjector(4, 8),
                               head=SharedClassifierHead(OWNED)).eval()
    weights = {**step.student.state_dict(),
               **{f'head.{key}': value for key, value in step.student.head.release(OWNED).state_dict().items()}}
    deployed.load_state_dict(weights, strict=True)
    assert torch.equal(deployed.head(deployed.neck((deployed.backbone(images), ))), expected)
