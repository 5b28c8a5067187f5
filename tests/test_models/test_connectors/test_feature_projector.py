import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn

from mmkd_atsc.models import FeatureProjector
from mmkd_atsc.models.connectors.feature_projector import _averages


@pytest.mark.parametrize('factor', [2, 4, 8])
@pytest.mark.parametrize('spatial, taps', [(True, 9), (False, 1)])
def test_parameters_are_the_bottlenecks(factor, spatial, taps):
    projector = FeatureProjector(6, 16, factor=factor, spatial=spatial)
    width = 16 // factor
    convs = 6 * width + taps * width * width + width * 16
    norms = 2 * (width + width + 16)
    assert sum(p.numel() for p in projector.parameters()) == convs + norms


def test_equals_the_formula_in_eval_mode():
    torch.manual_seed(0)
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


@pytest.mark.parametrize('spatial, shape', [(True, (2, 6, 4, 4)), (False, (2, 6))])
def test_tensor_for_tensor_and_tuple_of_one_for_tuple(spatial, shape):
    projector = FeatureProjector(6, 8, spatial=spatial).eval()
    x = torch.randn(shape)
    bare = projector(x)
    assert bare.shape == (2, 8, *shape[2:])
    outputs = projector((torch.zeros(2, 3), x))
    assert isinstance(outputs, tuple) and len(outputs) == 1
    assert torch.equal(outputs[0], bare)


@pytest.mark.parametrize('size, out_size, expected', [
    ((8, 8), 4, (4, 4)), ((8, 8), (4, 2), (4, 2)), ((4, 4), 8, (4, 4)), ((8, 2), 4, (4, 2)), ((7, 7), 6, (6, 6)),
    ((8, 8), None, (8, 8))])
def test_only_a_larger_map_is_pooled(size, out_size, expected):
    projector = FeatureProjector(6, 8, out_size=out_size).eval()
    x = torch.randn(2, 6, *size)
    pooled = projector(x)
    assert pooled.shape[2:] == expected
    assert torch.equal(pooled, projector(F.adaptive_avg_pool2d(x, expected)))


@pytest.mark.parametrize('size, out_size', [((7, 7), 6), ((7, 5), (6, 2)), ((8, 8), 4)])
def test_onnx_pools_to_any_smaller_size(size, out_size, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    projector, x = FeatureProjector(6, 8, out_size=out_size).eval(), torch.randn(2, 6, *size)
    path = str(tmp_path / 'projector.onnx')
    torch.onnx.export(projector, (x, ), path, dynamo=False, input_names=['x'], dynamic_axes=dict(x={0: 'batch'}))
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    for images in (x, torch.randn(3, 6, *size)):
        pooled = torch.from_numpy(session.run(None, {'x': images.numpy()})[0])
        torch.testing.assert_close(pooled, projector(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize('have, want', [(7, 6), (7, 3), (12, 5), (8, 4), (3, 3), (5, 1)])
def test_the_averages_are_those_of_adaptive_pooling(have, want):
    x = torch.randn(4, have, dtype=torch.float64)
    expected = F.adaptive_avg_pool1d(x[None], want)[0]
    torch.testing.assert_close(x @ _averages(have, want).double().T, expected, rtol=0, atol=1e-6)


def test_a_map_is_averaged_for_a_teacher_of_vectors():
    projector, x = FeatureProjector(6, 8, spatial=False).eval(), torch.randn(2, 6, 4, 5)
    torch.testing.assert_close(projector(x), projector(x.mean((2, 3))))


@pytest.mark.parametrize('spatial, shape', [(True, (4, 6, 4, 4)), (False, (4, 6))])
def test_every_parameter_is_used(spatial, shape):
    projector = FeatureProjector(6, 8, spatial=spatial)
    projector(torch.randn(shape)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in projector.parameters())


def test_final_relu():
    torch.manual_seed(0)
    x = torch.randn(8, 6)
    assert FeatureProjector(6, 8, spatial=False)(x).min() >= 0
    assert FeatureProjector(6, 8, spatial=False, final_relu=False)(x).min() < 0


def test_is_a_neck_and_a_connector_by_name():
    for scope in ('mmpretrain', 'mmrazor'):
        built = MODELS.build(dict(type='mmkd_atsc.FeatureProjector', in_channels=6, out_channels=8, _scope_=scope))
        assert isinstance(built, FeatureProjector)


@pytest.mark.parametrize('kwargs, error, words', [
    (dict(out_channels=9), ValueError, 'out_channels=9 is not divisible by factor=2'),
    (dict(factor=3), ValueError, 'factor=3 is not one of 2, 4, 8'),
    (dict(in_channels=0), ValueError, 'in_channels=0'),
    (dict(in_channels='64'), TypeError, "in_channels='64'"),
    (dict(spatial='False'), TypeError, "spatial='False'"),
    (dict(final_relu=1), TypeError, 'final_relu=1'),
    (dict(out_size=0), ValueError, 'out_size=0'),
    (dict(out_size=(4, 4, 4)), ValueError, r'out_size=\(4, 4, 4\)'),
    (dict(out_size=4, spatial=False), ValueError, 'needs spatial=True'),
])
def test_bad_arguments(kwargs, error, words):
    with pytest.raises(error, match=words):
        FeatureProjector(**{**dict(in_channels=6, out_channels=8), **kwargs})


@pytest.mark.parametrize('spatial, shape, words', [
    (False, (2, 17, 6), r'its channels are 17 and not in_channels=6'),
    (False, (6, ), r'shape \(6,\), with spatial=False it takes a vector of 2 dimensions$'),
    (True, (2, 6), r'shape \(2, 6\), with spatial=True it takes a map .*\(set spatial=False\)'),
    (True, (2, 17, 6), r'shape \(2, 17, 6\), with spatial=True it takes a map of 4 dimensions$'),
    (True, (2, 5, 4, 4), 'channels are 5 and not in_channels=6'),
    (False, (2, 7), 'channels are 7 and not in_channels=6'),
])
def test_bad_inputs(spatial, shape, words):
    with pytest.raises(ValueError, match=words):
        FeatureProjector(6, 8, spatial=spatial)(torch.zeros(shape))


def test_vectors_in_a_list_stand_side_by_side():
    projector, first, second = FeatureProjector(6, 8, spatial=False).eval(), torch.randn(2, 4), torch.randn(2, 2)
    projected, = projector(([first, second], ))
    assert torch.equal(projected, projector(torch.cat([first, second], 1)))


def test_tokens_are_averaged_for_a_teacher_of_vectors():
    projector, tokens = FeatureProjector(6, 8, spatial=False).eval(), torch.randn(2, 6, 4)
    torch.testing.assert_close(projector(tokens), projector(tokens.mean(2)))


def test_maps_in_a_list_are_refused():
    with pytest.raises(TypeError, match='FeatureProjector: the last output is a list of 2'):
        FeatureProjector(6, 8)(([torch.zeros(1, 6, 2, 2), torch.zeros(1, 6)], ))
