import torch

from mmkd_atsc.models.backbones import CIFARWideResNet


def test_the_closing_norm_and_relu_belong_to_the_backbone():
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
