"""The promises of every backbone, checked on a small network of each family, and those of single ones."""
import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.models import ResNet_CIFAR
from torch import nn

from mmkd_atsc.models.backbones import CIFARBottleneckResNet, MobileNetV1

# A small config of each family, and how many indices out_indices may name.
FAMILIES = {
    'CIFARResNet': (dict(depth=8), 3),
    'CIFARWideResNet': (dict(depth=10), 3),
    'CIFARVGG': (dict(depth=8), 5),
    'CIFARMobileNetV2': (dict(widen_factor=0.25, expand_ratio=2), 8),
    'CIFARShuffleNetV1': (dict(groups=3), 3),
    'CIFARShuffleNetV2': (dict(widen_factor=0.5), 4),
    'CIFARBottleneckResNet': (dict(depth=50), 4),
    'MobileNetV1': (dict(widen_factor=0.125), 5),
}
every_family = pytest.mark.parametrize('family', FAMILIES)


def build(family, **options):
    torch.manual_seed(0)
    net = MODELS.build(dict(type=f'mmkd_atsc.{family}', **{**FAMILIES[family][0], **options}))
    net.init_weights()
    return net


def build_all_stages(family, **options):
    return build(family, out_indices=tuple(range(FAMILIES[family][1])), **options)


def images():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@every_family
def test_the_last_stage_is_the_default_and_indices_keep_the_networks_order(family):
    features = build_all_stages(family).eval()(images())
    assert len(features) == FAMILIES[family][1]
    last, = build(family).eval()(images())
    assert torch.equal(last, features[-1])
    first, last = build(family, out_indices=[-1, 0]).eval()(images())
    assert torch.equal(first, features[0]) and torch.equal(last, features[-1])


@every_family
def test_a_gradient_reaches_every_parameter(family):
    net = build(family)
    feature, = net(images())
    (feature * torch.randn(feature.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
    assert all(param.grad is not None for param in net.parameters())
    # The bias of a convolution that batch norm follows has a gradient of zero by construction.
    assert [name for name, param in net.named_parameters() if param.grad.abs().sum() == 0
            and not (family == 'CIFARVGG' and param.ndim == 1)] == []


@pytest.mark.parametrize('family', ['CIFARResNet', 'CIFARWideResNet', 'CIFARVGG', 'CIFARMobileNetV2',
                                    'CIFARBottleneckResNet'])
def test_convolutions_start_at_variance_two_over_fan_out_and_norms_at_identity(family):
    net = build(family)
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    # Together, each in units of its own deviation: thousands of draws whose variance must be 1.
    draws = torch.cat([(c.weight / (2 / (c.out_channels * c.kernel_size[0]**2))**0.5).flatten() for c in convolutions])
    assert draws.std().item() == pytest.approx(1, abs=0.02) and draws.mean().abs() < 0.02
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms and all(torch.all(norm.weight == 1) and torch.all(norm.bias == 0) for norm in norms)
    assert all(torch.all(c.bias == 0) for c in convolutions if c.bias is not None)


@pytest.mark.parametrize('family, count', [('CIFARMobileNetV2', 7), ('CIFARShuffleNetV2', 3)])
def test_without_the_last_convolution_the_last_stage_is_all_there_is(family, count):
    whole = build_all_stages(family).eval()
    stages_only = build(family, with_last_conv=False).eval()
    stages_only.load_state_dict(whole.state_dict(), strict=False)
    assert torch.equal(stages_only(images())[0], whole(images())[-2])
    with pytest.raises(ValueError, match=f'out_indices={count} must be an integer'):
        build(family, with_last_conv=False, out_indices=(count, ))


@pytest.mark.parametrize('family, options, error, text', [
    ('CIFARResNet', dict(out_indices=(3, )), ValueError, 'out_indices=3 must be an integer at least -3 and at most 2'),
    ('CIFARResNet', dict(out_indices=2), TypeError, r'out_indices=2 must be a tuple of stage indices, such as \(2,\)'),
    ('CIFARResNet', dict(depth=18), ValueError, 'depth=18 must be 6n.2: the nearest are 14 and 20'),
    ('CIFARVGG', dict(depth=12), ValueError, 'depth=12 is not one of 8, 11, 13, 16, 19'),
    ('CIFARMobileNetV2', dict(widen_factor=0), ValueError, 'widen_factor=0 must be a number at least 0.0625'),
])
def test_impossible_options_are_refused_in_one_line(family, options, error, text):
    with pytest.raises(error, match=text):
        build(family, **options)


def test_the_bottleneck_resnet_is_mmpretrains_under_the_same_names():
    torch.manual_seed(0)
    theirs, ours = (kind(50, out_indices=(0, 1, 2, 3)) for kind in (ResNet_CIFAR, CIFARBottleneckResNet))
    theirs.eval()  # returns nothing
    ours.eval().load_state_dict(theirs.state_dict(), strict=True)
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(ours(x), theirs(x))


def test_mobilenets_stages_and_parameters_are_those_of_the_literature():
    network = MobileNetV1(out_indices=(0, 1, 2, 3, 4)).eval()
    features = network(torch.rand(1, 3, 224, 224))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (1024, 7, 7)]
    assert all(feature.min() == 0 for feature in features)
    assert sum(param.numel() for param in network.parameters()) + 1025 * 1000 == 4_231_976  # with the classifier
