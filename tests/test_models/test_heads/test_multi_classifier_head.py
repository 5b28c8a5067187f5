"""Several classifiers, one answer."""
import pytest
import torch
from mmengine.registry import MODELS
from torch.nn import functional as F

import mmkd_atsc  # noqa: F401
from mmkd_atsc.models.aggregate import AGGREGATES, aggregate_logits
from mmkd_atsc.models.classifier import split_classifier
from tests.conftest import tiny_classifier

OWNED = dict(neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=10, in_channels=16))


def build(**options):
    return MODELS.build(dict(type='mmkd_atsc.MultiClassifierHead', **options))


def bound(**options):
    torch.manual_seed(3)
    networks = {name: MODELS.build(tiny_classifier(8)) for name in ('big', 'small')}
    head = build(**options)
    head.bind_teachers({name: split_classifier(network) for name, network in networks.items()})
    return head, networks


def features(count=4):
    return tuple(torch.randn(count, 16, 8, 8, generator=torch.Generator().manual_seed(i)) for i in range(2))


def branch_logits(networks, feats):
    return [network.head(network.neck((feat, ))) for network, feat in zip(networks.values(), feats)]


@pytest.mark.parametrize('aggregate', AGGREGATES)
def test_the_answer_is_the_branches_together(aggregate, batch):
    head, networks = bound(aggregate=aggregate, weights=dict(small=3, big=1))
    logits = aggregate_logits(branch_logits(networks, features()), aggregate, [1, 3])
    torch.testing.assert_close(head(features()), logits)
    scores = torch.stack([sample.pred_score for sample in head.predict(features(), batch[1])])
    torch.testing.assert_close(scores, logits.softmax(1))


def test_each_branch_has_its_own_loss_and_the_classifiers_learn_nothing_from_it(batch):
    head, networks = bound()
    labels = torch.tensor([0, 3, 9, 1])
    feats = tuple(feature.requires_grad_() for feature in features())
    losses = head.loss(feats, batch[1])
    assert list(losses) == ['big.loss', 'small.loss']
    for loss, logits in zip(losses.values(), branch_logits(networks, feats)):
        torch.testing.assert_close(loss, F.cross_entropy(logits, labels))
    sum(losses.values()).backward()
    assert all(feature.grad.abs().sum() > 0 for feature in feats)
    assert all(p.grad is None for network in networks.values() for p in network.parameters())


def test_shared_it_holds_no_weights_and_released_it_owns_them():
    head, networks = bound()
    assert not list(head.parameters()) and not head.state_dict()
    for released in (head.release(), head.release(dict(small=OWNED, big=OWNED))):
        assert list(released.state_dict())[0] == 'branches.big.classifier.head.fc.weight'
        torch.testing.assert_close(released(features()), head(features()))
        with torch.no_grad():
            next(released.parameters()).add_(1)
        assert not torch.equal(next(released.parameters()), next(networks['big'].head.parameters()))
        with pytest.raises(RuntimeError, match='owns its classifiers'):
            released.bind_teachers({})
    rebuilt = build(classifiers=dict(big=OWNED, small=OWNED))
    rebuilt.load_state_dict(head.release().state_dict())
    torch.testing.assert_close(rebuilt(features()), head(features()))


def test_bound_again_it_shares_the_others():
    head, _ = bound()
    _, others = bound()
    head.bind_teachers({name: split_classifier(network) for name, network in others.items()})
    assert head.branches['big'].bound_classifier.head is others['big'].head


@pytest.mark.parametrize('options, words', [
    (dict(aggregate='mean'), "aggregate='mean' is not one of 'mean_prob'"),
    (dict(weights=dict(big=0)), 'weights: big=0 must be a number greater than 0'),
    (dict(classifiers={}), 'at least one classifier'),
    (dict(classifiers=dict(big=OWNED), weights=dict(small=1)), 'weights are for small, the classifiers are big'),
])
def test_wrong_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        build(**options)


def test_features_must_be_as_many_as_classifiers():
    head, _ = bound()
    with pytest.raises(ValueError, match=r'1 features for 2 classifiers \(big, small\)'):
        head(features()[:1])
    with pytest.raises(RuntimeError, match='no classifier yet'):
        build()(features())
    with pytest.raises(ValueError, match='classifiers are for big, the head has big, small'):
        head.release(dict(big=OWNED))
