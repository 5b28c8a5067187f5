"""The classifier families of MMPretrain 1.2, each with a network small enough for a step in seconds on one core.

A family is a folder of MMPretrain's configs. ``NETWORKS`` names a config of each and the options that make its backbone
small. ``EXCLUDED`` gives the reason why a folder is no family of classifiers. A folder in neither is an error.
"""
from pathlib import Path
from typing import Any, NamedTuple

import mmpretrain

CLASSES = 10
CONFIGS = Path(mmpretrain.__file__).parent / '.mim' / 'configs'


class Network(NamedTuple):
    """A config of MMPretrain, and the changes to it."""

    config: str
    backbone: dict[str, Any] = {}
    image_size: int = 64
    colours: int = 3

    @property
    def family(self) -> str:
        """The folder."""
        return self.config.split('/')[0]


def vit(config: str, image_size: int = 32, **options: Any) -> Network:
    """A vision transformer of two layers."""
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    return Network(config, dict(arch=arch, img_size=image_size, **options), image_size)


_TWINS = dict(embed_dims=[8, 16, 24, 32], depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], patch_sizes=[4, 2, 2, 2],
              strides=[4, 2, 2, 2], mlp_ratios=[2, 2, 2, 2], sr_ratios=[4, 2, 2, 1])
_SWIN = dict(embed_dims=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4])
_HORNET = dict(base_dim=8, depths=[1, 1, 1, 1], orders=[2, 2, 2, 2], dw_cfg=[dict(type='DW', kernel_size=7)] * 4)
_POOLFORMER = dict(layers=[1, 1, 1, 1], embed_dims=[8, 16, 24, 32], mlp_ratios=[2] * 4, layer_scale_init_value=1e-5)
_HRNET = {f'stage{i}': dict(num_modules=1, num_branches=i, block='BASIC' if i > 1 else 'BOTTLENECK',
                            num_blocks=(1, ) * i, num_channels=tuple(8 * 2**j for j in range(i))) for i in range(1, 5)}

NETWORKS: dict[str, Network] = {
    'beit': vit('beit/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k'),
    'beitv2': vit('beitv2/benchmarks/beit-base-p16_8xb128-coslr-100e_in1k'),
    'clip': vit('clip/vit-base-p32_pt-64xb64_in1k'),
    'conformer': Network('conformer/conformer-tiny-p16_8xb128_in1k', dict(
        arch=dict(embed_dims=32, depths=6, num_heads=2, channel_ratio=1))),
    'convmixer': Network('convmixer/convmixer-768-32_10xb64_in1k', dict(
        arch=dict(embed_dims=16, depth=2, patch_size=7, kernel_size=5))),
    'convnext': Network('convnext/convnext-tiny_32xb128_in1k', dict(
        arch=dict(depths=[1, 1, 1, 1], channels=[8, 16, 24, 32]))),
    'convnext_v2': Network('convnext_v2/convnext-v2-atto_32xb32_in1k', dict(
        arch=dict(depths=[1, 1, 1, 1], channels=[8, 16, 24, 32]))),
    'cspnet (CSPDarkNet)': Network('cspnet/cspdarknet50_8xb32_in1k'),
    'cspnet (CSPResNet)': Network('cspnet/cspresnet50_8xb32_in1k'),
    'cspnet (CSPResNeXt)': Network('cspnet/cspresnext50_8xb32_in1k'),
    'davit': Network('davit/davit-tiny_4xb256_in1k', dict(
        window_size=2, arch=dict(embed_dims=12, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4]))),
    'deit': vit('deit/deit-tiny_4xb256_in1k'),
    'deit (distilled)': vit('deit/deit-tiny-distilled_4xb256_in1k'),
    'deit3': vit('deit3/deit3-small-p16_64xb64_in1k'),
    'densenet': Network('densenet/densenet121_4xb256_in1k', dict(
        arch=dict(growth_rate=16, depths=[1, 1, 1, 1], init_channels=32))),
    'edgenext': Network('edgenext/edgenext-xxsmall_8xb256_in1k', dict(
        arch=dict(channels=[8, 16, 24, 32], depths=[2, 2, 2, 2], num_heads=[2, 2, 2, 2]))),
    'efficientformer': Network('efficientformer/efficientformer-l1_8xb128_in1k', dict(arch=dict(
        layers=[1, 1, 1, 2], embed_dims=[8, 16, 24, 32], downsamples=[False, True, True, True], vit_num=1)), 224),
    'efficientnet': Network('efficientnet/efficientnet-b0_8xb32_in1k'),
    'efficientnet_v2': Network('efficientnet_v2/efficientnetv2-b0_8xb32_in1k'),
    'eva': vit('eva/eva-g-p14_8xb16_in1k-336px', patch_size=16),
    'eva02': vit('eva02/eva02-tiny-p14_in1k', patch_size=16),
    'hivit': Network('hivit/hivit-tiny-p16_16xb64_in1k', dict(
        arch=dict(embed_dims=32, depths=[1, 1, 8], num_heads=2), img_size=64)),
    'hornet': Network('hornet/hornet-tiny_8xb128_in1k', dict(arch=_HORNET)),
    'hornet (global filter)': Network('hornet/hornet-tiny-gf_8xb128_in1k', dict(arch=dict(
        _HORNET, dw_cfg=[*_HORNET['dw_cfg'][:2], dict(type='GF', h=4, w=3), dict(type='GF', h=2, w=2)]))),
    'hrnet': Network('hrnet/hrnet-w18_4xb32_in1k', dict(arch=None, extra=_HRNET)),
    'inception_v3': Network('inception_v3/inception-v3_8xb32_in1k', dict(num_classes=10), 96),
    'lenet': Network('lenet/lenet5_mnist', dict(num_classes=10), 32, colours=1),
    'levit': Network('levit/levit-128s_8xb256_in1k', dict(img_size=64)),
    'mixmim': Network('mixmim/benchmarks/mixmim-base_8xb128-coslr-100e_in1k', dict(
        arch=_SWIN, img_size=64, window_size=[4, 4, 2, 2])),
    'mlp_mixer': Network('mlp_mixer/mlp-mixer-base-p16_64xb64_in1k', dict(img_size=64, arch=dict(
        embed_dims=32, num_layers=2, tokens_mlp_dims=16, channels_mlp_dims=64))),
    'mobilenet_v2': Network('mobilenet_v2/mobilenet-v2_8xb32_in1k', dict(widen_factor=0.25)),
    'mobilenet_v3': Network('mobilenet_v3/mobilenet-v3-small_8xb128_in1k'),
    'mobileone': Network('mobileone/mobileone-s0_8xb32_in1k', dict(arch=dict(
        num_blocks=[1, 1, 1, 1], width_factor=[0.25] * 4, num_conv_branches=[2] * 4, num_se_blocks=[0] * 4))),
    'mobilevit': Network('mobilevit/mobilevit-xxsmall_8xb128_in1k'),
    'mvit': Network('mvit/mvitv2-tiny_8xb256_in1k', dict(img_size=64, arch=dict(
        embed_dims=16, num_layers=4, num_heads=1, downscale_indices=[1, 2, 3]))),
    'poolformer': Network('poolformer/poolformer-s12_32xb128_in1k', dict(arch=_POOLFORMER)),
    'regnet': Network('regnet/regnetx-400mf_8xb128_in1k', dict(
        arch=dict(w0=8, wa=8.0, wm=2.0, group_w=8, depth=6, bot_mul=1.0))),
    'replknet': Network('replknet/replknet-31L_32xb64_in1k-384px', dict(arch=dict(
        large_kernel_sizes=[9, 7, 5, 3], layers=[1, 1, 1, 1], channels=[8, 16, 24, 32], small_kernel=3, dw_ratio=1))),
    'repmlp': Network('repmlp/repmlp-base_8xb64_in1k', dict(
        img_size=64, reparam_conv_kernels=(1, ), arch=dict(
            channels=[8, 16, 24, 32], depths=[1, 1, 1, 1], sharesets_nums=[1, 2, 4, 8]))),
    'repvgg': Network('repvgg/repvgg-A0_8xb32_in1k', dict(arch=dict(
        num_blocks=[1, 1, 1, 1], width_factor=[0.25] * 4, group_layer_map=None, se_cfg=None))),
    'res2net': Network('res2net/res2net50-w14-s8_8xb32_in1k', dict(stem_channels=16, base_channels=16)),
    'resnest': Network('resnest/resnest50_32xb64_in1k', dict(stem_channels=16, base_channels=16)),
    'resnet': Network('resnet/resnet18_8xb32_in1k', dict(stem_channels=16, base_channels=16)),
    'resnet (CIFAR)': Network('resnet/resnet18_8xb16_cifar10', dict(stem_channels=16, base_channels=16), 32),
    'resnet (V1c)': Network('resnet/resnetv1c50_8xb32_in1k', dict(stem_channels=16, base_channels=16)),
    'resnet (V1d)': Network('resnet/resnetv1d50_8xb32_in1k', dict(stem_channels=16, base_channels=16)),
    'resnext': Network('resnext/resnext50-32x4d_8xb32_in1k'),
    'revvit': vit('revvit/revvit-small_8xb256_in1k'),
    'riformer': Network('riformer/riformer-s12_8xb128_in1k', dict(arch=_POOLFORMER)),
    'seresnet': Network('seresnet/seresnet50_8xb32_in1k', dict(stem_channels=16, base_channels=16)),
    'seresnet (SEResNeXt)': Network('seresnet/seresnext50-32x4d_8xb32_in1k'),
    'shufflenet_v1': Network('shufflenet_v1/shufflenet-v1-1x_16xb64_in1k'),
    'shufflenet_v2': Network('shufflenet_v2/shufflenet-v2-1x_16xb64_in1k', dict(widen_factor=0.5)),
    'swin_transformer': Network('swin_transformer/swin-tiny_16xb64_in1k', dict(arch=_SWIN, img_size=64, window_size=2)),
    'swin_transformer_v2': Network('swin_transformer_v2/swinv2-tiny-w8_16xb64_in1k-256px', dict(
        arch=dict(_SWIN, extra_norm_every_n_blocks=0), img_size=64, window_size=[4, 4, 4, 2])),
    't2t_vit': Network('t2t_vit/t2t-vit-t-14_8xb64_in1k', dict(img_size=64, embed_dims=32, num_layers=2, t2t_cfg=dict(
        token_dims=16, use_performer=False), layer_cfgs=dict(num_heads=2, feedforward_channels=64))),
    'tinyvit': Network('tinyvit/tinyvit-5m_8xb256_in1k', dict(img_size=(64, 64), window_size=[4, 4, 4, 2], arch=dict(
        channels=[8, 16, 24, 32], num_heads=[1, 2, 2, 2], depths=[1, 1, 1, 1]))),
    'tnt': Network('tnt/tnt-s-p16_16xb64_in1k', dict(img_size=64, arch=dict(
        embed_dims_outer=32, embed_dims_inner=8, num_layers=2, num_heads_outer=2, num_heads_inner=2))),
    'twins (PCPVT)': Network('twins/twins-pcpvt-small_8xb128_in1k', dict(arch=_TWINS)),
    'twins (SVT)': Network('twins/twins-svt-small_8xb128_in1k', dict(arch=dict(
        _TWINS, window_sizes=[4, 4, 2, 2]))),
    'van': Network('van/van-tiny_8xb128_in1k', dict(
        arch=dict(embed_dims=[8, 16, 24, 32], depths=[1, 1, 1, 1], ffn_ratios=[2, 2, 2, 2]))),
    'vgg': Network('vgg/vgg11_8xb32_in1k', dict(num_classes=10), 224),
    'vig': Network('vig/vig-tiny_8xb128_in1k', {}, 224),
    'vig (pyramid)': Network('vig/pvig-tiny_8xb128_in1k', {}, 224),
    'vision_transformer': vit('vision_transformer/vit-base-p32_64xb64_in1k-384px', patch_size=16),
    'wrn': Network('wrn/wide-resnet50_8xb32_in1k', dict(stem_channels=16, base_channels=16)),
    'xcit': Network('xcit/xcit-nano-12-p16_8xb128_in1k', dict(embed_dims=32, depth=2, num_heads=2, cls_attn_layers=1)),
}

EXCLUDED: dict[str, tuple[str, ...]] = {
    'parts of configs': ('_base_', ),
    'pretraining without labels, judged by networks of other families': (
        'barlowtwins', 'byol', 'cae', 'densecl', 'itpn', 'mae', 'maskfeat', 'mff', 'milan', 'mocov2', 'mocov3',
        'simclr', 'simmim', 'simsiam', 'spark', 'swav'),
    'images with text': ('blip', 'blip2', 'chinese_clip', 'flamingo', 'glip', 'llava', 'minigpt4', 'ofa', 'otter'),
    'backbones without a head': ('dinov2', 'sam'),
    'retrieval': ('arcface', ),
    'several labels an image': ('csra', ),
}


def unsorted_folders() -> list[str]:
    """Folders of MMPretrain's configs that are in neither list or in both, and listed names without a folder."""
    families = {network.family for network in NETWORKS.values()}
    excluded = {folder for folders in EXCLUDED.values() for folder in folders}
    folders = {path.name for path in CONFIGS.iterdir() if path.is_dir()}
    return sorted(folders ^ (families | excluded) | (families & excluded))


def small_cnn(network: Network) -> dict[str, Any]:
    """A partner that gives a map."""
    return dict(type='mmpretrain.ImageClassifier', neck=dict(type='GlobalAveragePooling'), backbone=dict(
        type='ResNet_CIFAR', depth=18, in_channels=network.colours, stem_channels=4, base_channels=4),
                head=dict(type='LinearClsHead', num_classes=CLASSES, in_channels=32))


def small_transformer(network: Network) -> dict[str, Any]:
    """A partner that gives a vector."""
    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    return dict(type='mmpretrain.ImageClassifier', backbone=dict(
        type='VisionTransformer', arch=arch, patch_size=16, img_size=network.image_size, in_channels=network.colours),
                head=dict(type='VisionTransformerClsHead', num_classes=CLASSES, in_channels=16))
