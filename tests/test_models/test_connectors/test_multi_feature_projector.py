"""A projector a teacher; the weights rule the shared encoder's gradient alone."""
import pytest
import torch
from mmengine.registry import MODELS

import mmkd_atsc  # noqa: F401

PROJECTORS = dict(wide=dict(in_channels=4, out_channels=8), deep=dict(in_channels=4, out_channels=6, out_size=2))


def build(**projectors):
    torch.manual_seed(0)
    return MODELS.build(dict(type='mmkd_atsc.MultiFeatureProjector', projectors=projectors or PROJECTORS))


def gradients(neck, pulls):
    feature = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    neck.zero_grad()
    neck.set_pulls(pulls)
    outputs = neck((feature, ))
    shares = [torch.autograd.grad((out ** 2).sum(), feature, retain_graph=True)[0] for out in outputs]
    sum((out ** 2).sum() for out in outputs).backward()
    return outputs, shares, feature.grad, [p.grad.clone() for p in neck.parameters()]


def test_a_weight_scales_what_reaches_the_encoder_and_nothing_else():
    neck = build()
    plain, plain_shares, whole, own = gradients(neck, dict(wide=1, deep=1))
    outputs, shares, total, own_weighted = gradients(neck, dict(wide=0.25, deep=0.75))
    assert all(torch.equal(a, b) for a, b in zip(plain, outputs))
    assert all(torch.equal(a, b) for a, b in zip(own, own_weighted))
    torch.testing.assert_close(shares[0], 0.25 * plain_shares[0])
    torch.testing.assert_close(shares[1], 0.75 * plain_shares[1])
    torch.testing.assert_close(total, shares[0] + shares[1])
    torch.testing.assert_close(whole, plain_shares[0] + plain_shares[1])


def test_without_gradients_it_just_projects():
    with torch.no_grad():
        outputs = build().eval()((torch.zeros(2, 4, 4, 4), ))
    assert [tuple(out.shape) for out in outputs] == [(2, 8, 4, 4), (2, 6, 2, 2)]


def test_the_state_dict_names_the_teachers():
    assert {key.split('.')[1] for key in build().state_dict()} == {'wide', 'deep'}


@pytest.mark.parametrize('pulls', [dict(deep=1, wide=1), dict(wide=1)])
def test_other_teachers_are_refused(pulls):
    with pytest.raises(ValueError, match='projectors are for wide, deep; the teachers are'):
        build().set_pulls(pulls)


@pytest.mark.parametrize('projectors', [[], {}, None])
def test_projectors_are_a_dict(projectors):
    with pytest.raises(TypeError, match='projectors must be a dict'):
        MODELS.build(dict(type='mmkd_atsc.MultiFeatureProjector', projectors=projectors))
