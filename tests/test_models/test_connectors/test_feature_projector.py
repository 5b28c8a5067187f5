"""Bottlenecks, pooling, and the options that a projector finds in two features."""
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn

from mmkd_atsc.models import FeatureProjector


def test_equals_the_formula_in_eval_mode():
    projector = FeatureProjector(3, 4).double()
    for norm in (m for m in projector.modules() if isinstance(m, nn.BatchNorm2d)):
        for tensor in (norm.weight, norm.bias, norm.running_mean):
            nn.init.normal_(tensor)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    projector.eval()
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    expected = x
    convs, norms = ([m for m in projector.modules() if isinstance(m, kind)] for kind in (nn.Conv2d, nn.BatchNorm2d))
    for conv, norm, padding in zip(convs, norms, (0, 1, 0)):
        y = F.conv2d(expected, conv.weight, padding=padding)
        column = (slice(None), None, None)
        y = (y - norm.running_mean[column]) / (norm.running_var[column] + norm.eps).sqrt()
        expected = (y * norm.weight[column] + norm.bias[column]).clamp(min=0)
    torch.testing.assert_close(projector(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize('spatial, shape', [(True, (4, 6, 4, 4)), (False, (4, 6))])
def test_tensor_for_tensor_and_tuple_of_one_for_tuple(spatial, shape):
    projector, x = FeatureProjector(6, 8, spatial=spatial), torch.randn(shape)
    bare = projector(x)
    assert bare.shape == (4, 8, *shape[2:]) and bare.min() >= 0
    assert FeatureProjector(6, 8, spatial=spatial, final_relu=False)(x).min() < 0
    bare.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in projector.parameters())
    outputs = projector((torch.zeros(2, 3), x))
    assert isinstance(outputs, tuple) and len(outputs) == 1
    assert torch.equal(outputs[0], bare)


@pytest.mark.parametrize('size, expected', [((8, 8), (4, 4)), ((15, 7), (8, 4)), ((2, 1), (1, 1))])
def test_a_map_is_averaged_down_by_the_ratio_at_every_size(size, expected):
    projector, x = FeatureProjector(6, 8, pool=2).eval(), torch.randn(2, 6, *size)
    pooled = projector(x)
    assert pooled.shape[2:] == expected
    if size == (8, 8):
        torch.testing.assert_close(pooled, projector.layers(F.adaptive_avg_pool2d(x, expected)))


@pytest.mark.parametrize('shape', [(2, 6, 4, 5), (2, 6, 4)])
def test_maps_and_tokens_are_averaged_for_a_teacher_of_vectors(shape):
    projector, x = FeatureProjector(6, 8, spatial=False).eval(), torch.randn(shape)
    torch.testing.assert_close(projector(x), projector(x.flatten(2).mean(2)))


@pytest.mark.parametrize('kwargs, error, words', [
    (dict(out_channels=9), ValueError, 'out_channels=9 is not divisible by factor=2'),
    (dict(factor=3), ValueError, 'factor=3 is not one of 2, 4, 8'),
    (dict(in_channels=0), ValueError, 'in_channels=0'),
    (dict(spatial='False'), TypeError, "spatial='False'"),
    (dict(init_scale=0), ValueError, 'init_scale=0 must be a number greater than 0'),
])
def test_bad_arguments(kwargs, error, words):
    with pytest.raises(error, match=words):
        FeatureProjector(**{**dict(in_channels=6, out_channels=8), **kwargs})


@pytest.mark.parametrize('feature, target, wanted', [
    ((1, 8, 8, 8), (1, 16, 4, 4), dict(spatial=True, final_relu=True, pool=2)),
    ((1, 8, 7, 7), (1, 16, 6, 6), dict(spatial=True, final_relu=True)),
    ((1, 8, 8, 4), (1, 16, 4, 4), dict(spatial=True, final_relu=True)),
    ((1, 8, 5), (1, 16), dict(spatial=False, final_relu=False)),
])
def test_options_are_found_in_two_features(feature, target, wanted):
    projector = FeatureProjector()
    projector.bind(torch.zeros(feature), dict(teacher=torch.full(target, -1.0 if len(target) == 2 else 1.0)))
    assert projector.options() == dict(in_channels=8, out_channels=16, factor=2, **wanted)
    given = FeatureProjector(**projector.options())
    given.load_state_dict(projector.state_dict())
    images = torch.randn(2, *feature[1:])
    assert torch.equal(given.eval()(images), projector.eval()(images))


def test_a_given_option_is_kept_where_it_is_a_choice():
    projector = FeatureProjector(factor=4, final_relu=False, pool=4)
    projector.bind(torch.zeros(1, 8, 8, 8), dict(teacher=torch.ones(1, 16, 4, 4)))
    assert projector.options() == dict(in_channels=8, out_channels=16, factor=4, spatial=True, pool=4, final_relu=False)


@pytest.mark.parametrize('given', [dict(in_channels=4), dict(in_channels=8, out_channels=16, spatial=False)])
def test_an_option_that_does_not_fit_is_refused(given):
    with pytest.raises(ValueError, match=r'FeatureProjector has .*, or leave it out'):
        FeatureProjector(**given).bind(torch.zeros(1, 8, 4, 4), dict(teacher=torch.ones(1, 16, 4, 4)))


def test_without_numbers_and_without_a_teacher_it_says_what_to_do():
    with pytest.raises(RuntimeError, match='no layers yet: AdaptiveTeacherDistill finds its options'):
        FeatureProjector()(torch.zeros(2, 6, 4, 4))


def several(**options):
    projector = MODELS.build(dict(type='mmkd_atsc.FeatureProjector', **options))
    projector.bind(torch.zeros(1, 4, 4, 4), dict(wide=torch.ones(1, 8, 4, 4), deep=torch.ones(1, 6, 2, 2)))
    return projector


def test_several_teachers_have_a_projector_each_however_it_is_written():
    found = several()
    assert [tuple(out.shape) for out in found.eval()((torch.zeros(2, 4, 4, 4), ))] == [(2, 8, 4, 4), (2, 6, 2, 2)]
    written = MODELS.build(dict(type='mmkd_atsc.MultiFeatureProjector', projectors=dict(
        wide=dict(in_channels=4, out_channels=8), deep=dict(in_channels=4, out_channels=6, pool=2))))
    for other in (several(projectors=dict(wide={}, deep={})), written, FeatureProjector(**found.options())):
        other.load_state_dict(found.state_dict())
    assert list(found.state_dict())[0] == 'projectors.wide.layers.0.weight'


@pytest.mark.parametrize('options, scale', [(dict(), 0.01), (dict(init_scale=1.0), 1.0)])
def test_a_projection_begins_small_with_one_teacher_or_several(options, scale):
    single = FeatureProjector(4, 8, **options)
    norms = [m for m in single.modules() if isinstance(m, nn.BatchNorm2d)]
    for projector in (several(**options), several(projectors=dict(wide={}, deep={}), **options)):
        norms += [m for m in projector.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [round(float(norm.weight.detach().mean()), 6) for norm in norms] == [1, 1, scale] * 5
    assert single(torch.randn(64, 4, 4, 4)).max() < 6 * scale
