import torch
from mmpretrain.models import ResNet_CIFAR

from mmkd_atsc.models.backbones import CIFARBottleneckResNet


def test_it_is_mmpretrains_cifar_resnet_under_the_same_names():
    torch.manual_seed(0)
    theirs = ResNet_CIFAR(depth=50, out_indices=(0, 1, 2, 3))
    theirs.eval()  # returns nothing
    ours = CIFARBottleneckResNet(50, out_indices=(0, 1, 2, 3)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.rand(1, 3, 32, 32)
    for our_feature, their_feature in zip(ours(x), theirs(x)):
        torch.testing.assert_close(our_feature, their_feature)
