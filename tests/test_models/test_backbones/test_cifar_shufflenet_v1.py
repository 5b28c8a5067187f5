import pytest
import torch

from mmkd_atsc.models.backbones import CIFARShuffleNetV1


@pytest.mark.parametrize('groups, channels', [(1, 576), (2, 800), (3, 960)])
def test_the_widths_follow_the_number_of_groups(groups, channels):
    feature, = CIFARShuffleNetV1(groups)(torch.rand(2, 3, 32, 32))
    assert feature.shape == (2, channels, 4, 4)


def test_grouped_convolutions_alone_do_not_see_all_channels_but_the_shuffle_mixes_them():
    """Without the shuffle a channel of the first group could never reach the third group's outputs."""
    unit = CIFARShuffleNetV1(3).layer2[1].eval()
    x = torch.randn(1, 480, 2, 2, requires_grad=True)
    unit.bn3(unit.conv3(unit.conv1(x)))[:, 320:].sum().backward()
    assert x.grad[:, :160].abs().sum() == 0
    x.grad = None
    unit(x)[:, 320:].sum().backward()
    assert x.grad[:, :160].abs().sum() > 0
