"""A teacher's classifier as the student's head, shared or owned; of several teachers, one answer."""
import copy
import pickle

import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.models import ImageClassifier, heads
from mmpretrain.models.necks import GlobalAveragePooling, LinearNeck
from mmpretrain.structures import DataSample
from torch import nn

from mmkd_atsc.models import SharedClassifierHead
from mmkd_atsc.models.aggregate import AGGREGATES, aggregate_logits
from mmkd_atsc.models.classifier import Classifier, SplitNetwork, split_classifier

LINEAR = dict(type='LinearClsHead', num_classes=5, in_channels=8)
OWNED = dict(neck=dict(type='GlobalAveragePooling'), head=LINEAR)


def samples(*labels):
    return [DataSample().set_gt_label(label) for label in labels]


def bound(neck, teacher, **options):
    """A head that shares one teacher's classifier."""
    head = SharedClassifierHead(**options)
    head.bind_teachers(dict(teacher=SplitNetwork(nn.Identity(), Classifier(neck, teacher))))
    return head


def teachers():
    smooth = dict(type='LabelSmoothLoss', label_smooth_val=0.1, num_classes=5)
    return {
        'linear': (GlobalAveragePooling(), heads.LinearClsHead(5, 8, loss=smooth, cal_acc=True, topk=(1, 2))),
        'linear neck': (LinearNeck(8, 6, gap_dim=2), heads.StackedLinearClsHead(5, 6, [6], norm_cfg=dict(type='BN1d'))),
        'arcface': (GlobalAveragePooling(), heads.ArcFaceClsHead(5, 8)),
        'multi-label': (GlobalAveragePooling(), heads.MultiLabelLinearClsHead(5, 8)),
    }


@pytest.mark.parametrize('name', teachers())
@pytest.mark.parametrize('training', [True, False])
def test_on_one_feature_the_students_network_is_the_teachers(name, training):
    neck, teacher_head = teachers()[name]
    teacher = ImageClassifier(backbone=nn.Identity(), neck=neck, head=teacher_head).train(training)
    student = ImageClassifier(backbone=nn.Identity(), head=bound(neck, teacher_head)).train(training)
    features, data = (torch.randn(3, 8, 4, 4), ), samples(4, 0, 2)
    assert torch.equal(student(features), teacher(features))
    got, expected = (network(features, copy.deepcopy(data), mode='loss') for network in (student, teacher))
    assert set(got) == set(expected) and torch.equal(got['loss'], expected['loss'])
    got, expected = (network(features, copy.deepcopy(data), mode='predict') for network in (student, teacher))
    assert all(torch.equal(g.pred_score, e.pred_score) and torch.equal(g.pred_label, e.pred_label)
               for g, e in zip(got, expected))
    assert torch.equal(student.extract_feat(features, stage='pre_logits'),
                       teacher.extract_feat(features, stage='pre_logits'))


@pytest.mark.parametrize('detach', [True, False])
def test_the_students_loss_teaches_a_shared_classifier_only_when_asked(detach):
    neck, teacher = LinearNeck(8, 8), heads.StackedLinearClsHead(5, 8, [6], norm_cfg=dict(type='BN1d'))
    features = torch.randn(3, 8, requires_grad=True)
    bound(neck, teacher, detach=detach).loss((features, ), samples(0, 1, 2))['loss'].backward()
    assert features.grad.abs().sum() > 0
    assert all((parameter.grad is None) == detach for module in (neck, teacher) for parameter in module.parameters())
    assert int(neck.norm.num_batches_tracked) == int(not detach)


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda whole: pickle.loads(pickle.dumps(whole))])
def test_a_copy_of_the_whole_shares_the_copied_teacher(duplicate):
    teacher = heads.LinearClsHead(5, 8)
    parts = {'student': bound(None, teacher), 'teacher': teacher}
    twin = duplicate(nn.ModuleDict(parts))
    assert twin['student'].classifiers['teacher'].head is twin['teacher'] is not teacher
    for parameter in twin['teacher'].parameters():
        nn.init.zeros_(parameter)
    assert parts['student']((torch.ones(1, 8), )).abs().sum() > 0
    assert twin['student']((torch.ones(1, 8), )).abs().sum() == 0


def several(**options):
    """A head that shares the classifiers of two teachers, and the networks of these."""
    networks = {name: ImageClassifier(nn.Identity(), GlobalAveragePooling(), heads.LinearClsHead(5, 8, init_cfg=None))
                for name in ('big', 'small')}
    head = MODELS.build(dict(type='mmkd_atsc.MultiClassifierHead', **options))
    head.bind_teachers({name: split_classifier(network) for name, network in networks.items()})
    return head, networks


def two_features():
    return tuple(torch.randn(4, 8, 3, 3, generator=torch.Generator().manual_seed(i)) for i in range(2))


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_the_answer_is_that_of_all_branches(aggregate):
    head, networks = several(aggregate=aggregate, weights=dict(small=3, big=1))
    branches = [network.head(network.neck((feat, ))) for network, feat in zip(networks.values(), two_features())]
    logits = aggregate_logits(branches, aggregate, [1, 3])
    torch.testing.assert_close(head(two_features()), logits)
    scores = torch.stack([sample.pred_score for sample in head.predict(two_features(), samples(0, 3, 4, 1))])
    torch.testing.assert_close(scores, logits.softmax(1))


def test_bound_again_it_shares_the_others_and_an_owner_cannot_be_bound():
    (head, _), (_, others) = several(), several()
    splits = {name: split_classifier(network) for name, network in others.items()}
    head.bind_teachers(splits)
    assert head.classifiers['big'].head is others['big'].head
    for owner in (head.release(), SharedClassifierHead(OWNED)):
        with pytest.raises(RuntimeError, match='owns its classifiers'):
            owner.bind_teachers(splits)


@pytest.mark.parametrize('options, error, words', [
    (dict(classifier=dict(haed=LINEAR)), TypeError, "unexpected keyword argument 'haed'"),
    (dict(aggregate='mean'), ValueError, "aggregate='mean' is not one of 'mean_prob'"),
    (dict(classifiers=dict(big=OWNED, deep=OWNED), weights=dict(big=1)), ValueError,
     'weights are for big, the classifiers are big, deep'),
])
def test_bad_arguments(options, error, words):
    with pytest.raises(error, match=words):
        SharedClassifierHead(**options)
