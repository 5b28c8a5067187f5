"""Properties of single backbones, compared with the literature."""
import torch
from mmpretrain.models import ResNet_CIFAR

from mmkd_atsc.models.backbones import CIFARBottleneckResNet, CIFARShuffleNetV1, CIFARWideResNet, MobileNetV1


def test_the_bottleneck_resnet_is_mmpretrains_under_the_same_names():
    torch.manual_seed(0)
    theirs, ours = (kind(50, out_indices=(0, 1, 2, 3)) for kind in (ResNet_CIFAR, CIFARBottleneckResNet))
    theirs.eval()  # returns nothing
    ours.eval().load_state_dict(theirs.state_dict(), strict=True)
    x = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_closing_norm_and_relu_belong_to_the_wide_resnet():
    net = CIFARWideResNet(16, out_indices=(0, 1, 2)).eval()
    first, second, last = net(torch.randn(2, 3, 32, 32))
    assert first.min() < 0 and second.min() < 0 and last.min() == 0
    assert torch.equal(last, net.bn(net.layer3(second)).relu())


def test_a_shortcut_with_weights_starts_from_the_activated_input():
    block = CIFARWideResNet(10, 2).layer1[0].eval()
    x = torch.randn(1, 16, 8, 8)
    # With the residual branch silenced the block is its shortcut.
    torch.nn.init.zeros_(block.conv2.weight)
    assert torch.equal(block(x), block.shortcut(block.bn1(x).relu()))


def test_the_shuffle_mixes_the_groups_of_channels():
    """Without it a channel of the first group could never reach the third group's outputs."""
    unit = CIFARShuffleNetV1(3).layer2[1].eval()
    x = torch.randn(1, 480, 2, 2, requires_grad=True)
    unit.bn3(unit.conv3(unit.conv1(x)))[:, 320:].sum().backward()
    assert x.grad[:, :160].abs().sum() == 0
    x.grad = None
    unit(x)[:, 320:].sum().backward()
    assert x.grad[:, :160].abs().sum() > 0


def test_mobilenets_stages_and_parameters_are_those_of_the_literature():
    network = MobileNetV1(out_indices=(0, 1, 2, 3, 4)).eval()
    features = network(torch.rand(1, 3, 224, 224))
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (1024, 7, 7)]
    assert all(feature.min() == 0 for feature in features)
    assert sum(param.numel() for param in network.parameters()) + 1025 * 1000 == 4_231_976  # with the classifier
