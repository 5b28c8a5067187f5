"""The distillation literature's networks as functions over the names that its checkpoints use.

Written from the papers and from the names alone, sharing nothing with the package: an independent second opinion on
both the converter's tables and the backbones.
"""
import torch
import torch.nn.functional as F


class Literature:
    """Draws each weight under its name when a network first asks for it; ``weights`` is then its checkpoint."""

    def __init__(self, seed=0):
        self.weights = {}
        self.random = torch.Generator().manual_seed(seed)

    def _draw(self, name, *shape, scale=1.0, around=0.0):
        if name not in self.weights:
            self.weights[name] = around + scale * torch.randn(*shape, generator=self.random)
        return self.weights[name]

    def conv(self, name, x, width, kernel=3, stride=1, groups=1, bias=False):
        fan_in = x.shape[1] // groups * kernel**2
        weight = self._draw(f'{name}.weight', width, x.shape[1] // groups, kernel, kernel, scale=fan_in**-0.5)
        bias = self._draw(f'{name}.bias', width, scale=0.1) if bias else None
        return F.conv2d(x, weight, bias, stride, padding=kernel // 2, groups=groups)

    def bn(self, name, x):
        width = x.shape[1]
        weight, bias = self._draw(f'{name}.weight', width, scale=.2, around=1), self._draw(f'{name}.bias', width)
        mean = self._draw(f'{name}.running_mean', width, scale=0.1)
        var = self.weights.setdefault(f'{name}.running_var', 0.5 + torch.rand(width, generator=self.random))
        self.weights.setdefault(f'{name}.num_batches_tracked', torch.tensor(7))
        return F.batch_norm(x, mean, var, weight, bias)

    def linear(self, name, x, classes=100):
        x = x.mean((2, 3))
        return F.linear(x, self._draw(f'{name}.weight', classes, x.shape[1], scale=x.shape[1]**-0.5),
                        self._draw(f'{name}.bias', classes))


def resnet(net, x, depth, widths):
    x = net.bn('bn1', net.conv('conv1', x, widths[0])).relu()
    for stage in (1, 2, 3):
        for block in range((depth - 2) // 6):
            name, stride = f'layer{stage}.{block}', 2 if stage > 1 and block == 0 else 1
            out = net.bn(f'{name}.bn1', net.conv(f'{name}.conv1', x, widths[stage], stride=stride)).relu()
            out = net.bn(f'{name}.bn2', net.conv(f'{name}.conv2', out, widths[stage]))
            if stride > 1 or x.shape[1] != widths[stage]:
                x = net.bn(f'{name}.downsample.1', net.conv(f'{name}.downsample.0', x, widths[stage], 1, stride))
            x = (out + x).relu()
    return net.linear('fc', x)


def bottleneck_resnet(net, x, blocks=(3, 4, 6, 3)):
    x = net.bn('bn1', net.conv('conv1', x, 64)).relu()
    for stage, count in enumerate(blocks):
        for block in range(count):
            name, width, stride = f'layer{stage + 1}.{block}', 64 * 2**stage, 2 if stage > 0 and block == 0 else 1
            out = net.bn(f'{name}.bn1', net.conv(f'{name}.conv1', x, width, 1)).relu()
            out = net.bn(f'{name}.bn2', net.conv(f'{name}.conv2', out, width, stride=stride)).relu()
            out = net.bn(f'{name}.bn3', net.conv(f'{name}.conv3', out, 4 * width, 1))
            if block == 0:
                x = net.bn(f'{name}.shortcut.1', net.conv(f'{name}.shortcut.0', x, 4 * width, 1, stride))
            x = (out + x).relu()
    return net.linear('linear', x)


def wide_resnet(net, x, depth, widen_factor):
    x = net.conv('conv1', x, 16)
    for stage in (1, 2, 3):
        width = 16 * 2**(stage - 1) * widen_factor
        for block in range((depth - 4) // 6):
            name, stride = f'block{stage}.layer.{block}', 2 if stage > 1 and block == 0 else 1
            active = net.bn(f'{name}.bn1', x).relu()
            out = net.bn(f'{name}.bn2', net.conv(f'{name}.conv1', active, width, stride=stride)).relu()
            out = net.conv(f'{name}.conv2', out, width)
            if x.shape[1] != width:
                x = net.conv(f'{name}.convShortcut', active, width, 1, stride)
            x = x + out
    return net.linear('fc', net.bn('bn1', x).relu())


def vgg(net, x, convolutions):
    for block, (count, width) in enumerate(zip(convolutions, (64, 128, 256, 512, 512))):
        for number in range(count):
            x = net.conv(f'block{block}.{3 * number}', x, width, bias=True)
            x = net.bn(f'block{block}.{3 * number + 1}', x).relu()
        if block < 3:
            x = F.max_pool2d(x, 2)
    return net.linear('classifier', x)


def mobilenet_v2(net, x, widen_factor):
    x = net.bn('conv1.1', net.conv('conv1.0', x, int(32 * widen_factor), stride=2)).relu()
    stages = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    for stage, (expand, width, blocks, first_stride) in enumerate(stages):
        for block in range(blocks):
            name, hidden, width_out = f'blocks.{stage}.{block}.conv', x.shape[1] * expand, int(width * widen_factor)
            stride = first_stride if block == 0 else 1
            out = net.bn(f'{name}.1', net.conv(f'{name}.0', x, hidden, 1)).relu()
            out = net.bn(f'{name}.4', net.conv(f'{name}.3', out, hidden, stride=stride, groups=hidden)).relu()
            out = net.bn(f'{name}.7', net.conv(f'{name}.6', out, width_out, 1))
            x = x + out if stride == 1 and x.shape[1] == width_out else out
    return net.linear('classifier.0', net.bn('conv2.1', net.conv('conv2.0', x, 1280, 1)).relu())


def shuffle(x, groups):
    return x.unflatten(1, (groups, -1)).transpose(1, 2).flatten(1, 2)


def shufflenet_v1(net, x, groups=3):
    x = net.bn('bn1', net.conv('conv1', x, 24, 1)).relu()
    for stage, (width, blocks) in enumerate([(240, 4), (480, 8), (960, 4)], 1):
        for block in range(blocks):
            name, down = f'layer{stage}.{block}', block == 0
            own = width - x.shape[1] if down else width
            first_groups = 1 if x.shape[1] == 24 else groups
            out = net.bn(f'{name}.bn1', net.conv(f'{name}.conv1', x, own // 4, 1, groups=first_groups)).relu()
            out = net.conv(f'{name}.conv2', shuffle(out, first_groups), own // 4, 3, 2 if down else 1, groups=own // 4)
            out = net.bn(f'{name}.bn3', net.conv(f'{name}.conv3', net.bn(f'{name}.bn2', out).relu(), own, 1,
                                                 groups=groups))
            x = (torch.cat([out, F.avg_pool2d(x, 3, 2, 1)], 1) if down else out + x).relu()
    return net.linear('linear', x)


def shufflenet_v2(net, x, widths):
    x = net.bn('bn1', net.conv('conv1', x, 24, 1)).relu()
    for stage, (width, blocks) in enumerate(zip(widths, (4, 8, 4)), 1):
        name, half, channels = f'layer{stage}.0', width // 2, x.shape[1]
        left = net.bn(f'{name}.bn1', net.conv(f'{name}.conv1', x, channels, 3, 2, groups=channels))
        left = net.bn(f'{name}.bn2', net.conv(f'{name}.conv2', left, half, 1)).relu()
        right = net.bn(f'{name}.bn3', net.conv(f'{name}.conv3', x, half, 1)).relu()
        right = net.bn(f'{name}.bn4', net.conv(f'{name}.conv4', right, half, 3, 2, groups=half))
        right = net.bn(f'{name}.bn5', net.conv(f'{name}.conv5', right, half, 1)).relu()
        x = shuffle(torch.cat([left, right], 1), 2)
        for block in range(1, blocks):
            name, kept, out = f'layer{stage}.{block}', x[:, :half], x[:, half:]
            out = net.bn(f'{name}.bn1', net.conv(f'{name}.conv1', out, half, 1)).relu()
            out = net.bn(f'{name}.bn2', net.conv(f'{name}.conv2', out, half, groups=half))
            out = net.bn(f'{name}.bn3', net.conv(f'{name}.conv3', out, half, 1)).relu()
            x = shuffle(torch.cat([kept, out], 1), 2)
    return net.linear('linear', net.bn('bn2', net.conv('conv2', x, 1024, 1)).relu())


NETWORKS = {
    'resnet14': lambda net, x: resnet(net, x, 14, (16, 16, 32, 64)),
    'resnet14x2': lambda net, x: resnet(net, x, 14, (16, 32, 64, 128)),
    'resnet38x2': lambda net, x: resnet(net, x, 38, (16, 32, 64, 128)),
    'resnet8x4': lambda net, x: resnet(net, x, 8, (32, 64, 128, 256)),
    'wrn_16_1': lambda net, x: wide_resnet(net, x, 16, 1),
    'wrn_16_2': lambda net, x: wide_resnet(net, x, 16, 2),
    'vgg8': lambda net, x: vgg(net, x, (1, 1, 1, 1, 1)),
    'vgg13': lambda net, x: vgg(net, x, (2, 2, 2, 2, 2)),
    'resnet50': bottleneck_resnet,
    'mobilenetv2': lambda net, x: mobilenet_v2(net, x, 0.5),
    'mobilenetv2x2': lambda net, x: mobilenet_v2(net, x, 1.0),
    'shufflenetv1': shufflenet_v1,
    'shufflenetv2': lambda net, x: shufflenet_v2(net, x, (116, 232, 464)),
    'shufflenetv2x1_5': lambda net, x: shufflenet_v2(net, x, (176, 352, 704)),
}
