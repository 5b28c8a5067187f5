"""Converts a checkpoint of RepDistiller, mdistiller, SimKD, ATSC or torchvision to the layout of MMPretrain.

    python tools/model_converters/convert_teacher.py resnet32x4_best.pth checkpoints/resnet32x4.pth --arch resnet32x4

Only the names of the weights differ, so each family of networks has a table of substitutions.
"""
import argparse
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from mmengine.registry import MODELS
from torch import Tensor

from mmkd_atsc import cli
from mmkd_atsc.checkpoints.atomic_file import write_whole
from mmkd_atsc.checkpoints.read import load_strictly, read_checkpoint, weights_of
from mmkd_atsc.errors.checks import check_choice, check_number

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from analysis.cifar_networks import CIFAR_NETWORKS, classifier, linear_classifier

Rules = Sequence[tuple[str, str]]

# Applied after a family's own rules. A checkpoint that has our layout already passes through them unchanged.
INTO_BACKBONE = (r'^(?!backbone\.|head\.)', 'backbone.')

CIFAR_RULES: dict[str, Rules] = {
    'mmkd_atsc.CIFARResNet': [(r'^fc\.', 'head.fc.')],
    'mmkd_atsc.CIFARWideResNet': [(r'^fc\.', 'head.fc.'), (r'^bn1\.', 'bn.'), (r'^block(\d)\.layer\.', r'layer\1.'),
                                  (r'\.convShortcut\.', '.shortcut.')],
    'mmkd_atsc.CIFARVGG': [(r'^classifier\.', 'head.fc.')],
    'mmkd_atsc.CIFARMobileNetV2': [(r'^classifier\.0\.', 'head.fc.'), (r'^blocks\.(\d)\.', r'block\1.')],
    'mmkd_atsc.CIFARShuffleNetV1': [(r'^linear\.', 'head.fc.')],
    'mmkd_atsc.CIFARShuffleNetV2': [(r'^linear\.', 'head.fc.')],
    'mmkd_atsc.CIFARBottleneckResNet': [(r'^(fc|linear)\.', 'head.fc.'), (r'\.shortcut\.', '.downsample.')],
}


def _mobilenet_v2_rules() -> Rules:
    """torchvision numbers all blocks through, MMPretrain by stage and block; and each names conv and norm its way."""
    rules: list[tuple[str, str]] = [(r'^features\.0\.', 'conv1.'), (r'^features\.18\.', 'conv2.'),
                                    (r'^classifier\.1\.', 'head.fc.')]
    blocks = [(stage, block) for stage, count in enumerate((1, 2, 3, 4, 3, 3, 1), 1) for block in range(count)]
    rules += [(rf'^features\.{number}\.', f'layer{stage}.{block}.') for number, (stage, block) in enumerate(blocks, 1)]
    # The last convolution of a block and its norm are bare modules, at 1 and 2 in the first block and 2 and 3 else.
    rules += [(r'^(layer1\.0\.conv)\.1\.(?=[a-z])', r'\1.1.conv.'), (r'^(layer1\.0\.conv)\.2\.(?=[a-z])', r'\1.1.bn.'),
              (r'\.conv\.2\.(?=[a-z_]+$)', '.conv.2.conv.'), (r'\.conv\.3\.(?=[a-z_]+$)', '.conv.2.bn.')]
    return [*rules, (r'^(conv\d|layer.*\.conv\.\d)\.0\.', r'\1.conv.'),
            (r'^(conv\d|layer.*\.conv\.\d)\.1\.', r'\1.bn.')]


def _vgg_rules(convolutions: Sequence[int]) -> Rules:
    """torchvision counts convolution, norm and ReLU each, MMPretrain the three as one; both count the pooling."""
    rules, source, target = [], 0, 0
    for count in convolutions:
        for _ in range(count):
            rules += [(rf'^features\.{source}\.', f'backbone.features.{target}.conv.'),
                      (rf'^features\.{source + 1}\.', f'backbone.features.{target}.bn.')]
            source, target = source + 3, target + 1
        source, target = source + 1, target + 1
    return rules


def _vgg_config(depth: int, num_classes: int) -> dict:
    backbone = dict(type='mmpretrain.VGG', depth=depth, norm_cfg=dict(type='BN'), num_classes=num_classes)
    return dict(type='mmpretrain.ImageClassifier', backbone=backbone, neck=None, head=dict(type='mmpretrain.ClsHead'))


@dataclass(frozen=True)
class Architecture:
    """A network that the converter knows: its config for a number of classes, and how its keys are renamed."""
    config: Callable[[int], dict]
    num_classes: int
    rules: Rules


def _torchvision(backbone: dict, in_channels: int, rules: Rules = ((r'^fc\.', 'head.fc.'), )) -> Architecture:
    return Architecture(lambda num_classes: linear_classifier(dict(backbone), in_channels, num_classes), 1000, rules)


def _torchvision_vgg(depth: int, convolutions: Sequence[int]) -> Architecture:
    return Architecture(lambda num_classes: _vgg_config(depth, num_classes), 1000, _vgg_rules(convolutions))


_WIDE = dict(type='mmpretrain.ResNet', stem_channels=64, base_channels=128, expansion=2)

ARCHITECTURES: dict[str, Architecture] = {
    **{name: Architecture(partial(classifier, name), 100, CIFAR_RULES[network['backbone']['type']])
       for name, network in CIFAR_NETWORKS.items()},
    'torchvision/resnet18': _torchvision(dict(type='mmpretrain.ResNet', depth=18), 512),
    'torchvision/resnet34': _torchvision(dict(type='mmpretrain.ResNet', depth=34), 512),
    'torchvision/resnet50': _torchvision(dict(type='mmpretrain.ResNet', depth=50), 2048),
    'torchvision/resnet101': _torchvision(dict(type='mmpretrain.ResNet', depth=101), 2048),
    'torchvision/resnet152': _torchvision(dict(type='mmpretrain.ResNet', depth=152), 2048),
    'torchvision/wide_resnet50_2': _torchvision(dict(_WIDE, depth=50), 2048),
    'torchvision/wide_resnet101_2': _torchvision(dict(_WIDE, depth=101), 2048),
    'torchvision/resnext50_32x4d': _torchvision(
        dict(type='mmpretrain.ResNeXt', depth=50, groups=32, width_per_group=4), 2048),
    'torchvision/resnext101_32x8d': _torchvision(
        dict(type='mmpretrain.ResNeXt', depth=101, groups=32, width_per_group=8), 2048),
    'torchvision/mobilenet_v2': _torchvision(dict(type='mmpretrain.MobileNetV2'), 1280, _mobilenet_v2_rules()),
    'torchvision/vgg11_bn': _torchvision_vgg(11, (1, 1, 2, 2, 2)),
    'torchvision/vgg13_bn': _torchvision_vgg(13, (2, 2, 2, 2, 2)),
    'torchvision/vgg16_bn': _torchvision_vgg(16, (2, 2, 3, 3, 3)),
    'torchvision/vgg19_bn': _torchvision_vgg(19, (2, 2, 4, 4, 4)),
}


def rename(weights: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    """The weights under the names that ``rules`` give, each rule applied in turn.

    >>> sorted(rename({'conv1.weight': 1, 'fc.bias': 2}, CIFAR_RULES['mmkd_atsc.CIFARResNet']))
    ['backbone.conv1.weight', 'head.fc.bias']
    """
    renamed: dict[str, Tensor] = {}
    for key, value in weights.items():
        name = key
        for pattern, replacement in (*rules, INTO_BACKBONE):
            name = re.sub(pattern, replacement, name)
        if name in renamed:
            raise ValueError(f'two entries, {key!r} the second, both become {name!r}')
        renamed[name] = value
    return renamed


def convert(source: str | Path, arch: str, num_classes: int | None = None) -> dict:
    """The checkpoint of ``arch`` with the weights in ``source``, which must fit it exactly.

    Args:
        source: A checkpoint file.
        arch: One of :data:`ARCHITECTURES`.
        num_classes: Default: 100, and 1000 for torchvision's.

    Returns:
        dict: ``state_dict`` in the layout of MMPretrain's image classifier, and ``meta``.
    """
    architecture = ARCHITECTURES[check_choice('arch', arch, ARCHITECTURES)]
    num_classes = architecture.num_classes if num_classes is None else num_classes
    check_number('num_classes', num_classes, low=1, integer=True)
    # The literature's last checkpoints hold the command line too. A Namespace only keeps attributes.
    with torch.serialization.safe_globals([argparse.Namespace]):
        content = read_checkpoint(str(source))
    weights = rename(weights_of(content, str(source)), architecture.rules)
    model = MODELS.build(architecture.config(num_classes))
    load_strictly(model, weights, str(source), role=f'{arch} with {num_classes} classes')
    return dict(state_dict=model.state_dict(), meta=dict(arch=arch, num_classes=num_classes, source=Path(source).name))


def convert_file(source: str | Path, target: str | Path, arch: str,
                 num_classes: int | None = None) -> None:
    """:func:`convert` to a file, which exists afterwards only if all of it is there."""
    source, target = Path(source), Path(target)
    if target.is_dir():
        raise ValueError(f'{target}: is a folder, not a file to write')
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f'{target}: is the source itself; give another file to write')
    content = io.BytesIO()
    torch.save(convert(source, arch, num_classes), content)
    write_whole(target, content.getvalue())


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='the checkpoint to read')
    parser.add_argument('target', help='the checkpoint to write')
    parser.add_argument('--arch', required=True, help=f'the network: {", ".join(ARCHITECTURES)}')
    parser.add_argument('--num-classes', type=int, help='default: 100; 1000 for torchvision/*')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        convert_file(args.source, args.target, args.arch, args.num_classes)
        print(f'wrote {args.target}: {args.arch}')


if __name__ == '__main__':
    main()
