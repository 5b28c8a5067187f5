"""Properties of single backbones, compared with the literature."""
import torch
from mmpretrain.models import ResNet_CIFAR

from mmkd_atsc.models.backbones import CIFARBottleneckResNet, MobileNetV1


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
