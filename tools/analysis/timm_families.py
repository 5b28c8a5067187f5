"""The families of timm, each with its smallest network: a family is a module of ``timm.models``.

``NETWORKS`` is written down for timm 1.0.31, the smallest by its number of parameters. Where that is still large, it
has fewer layers here, and where it needs an image of one size, that stands here. A family that is missing is an error.
"""
from typing import Any, NamedTuple


class TimmNetwork(NamedTuple):
    """A network of timm by its name, the image that it gets, and options of ``timm.create_model``."""

    config: str
    image_size: int = 64
    options: dict[str, Any] = {}
    colours: int = 3


def resized(config: str, image_size: int = 64, **options: Any) -> TimmNetwork:
    """A network for images of one size, which it is told."""
    return TimmNetwork(config, image_size, dict(img_size=image_size, **options))


NETWORKS: dict[str, TimmNetwork] = {
    'beit': resized('beit_base_patch16_224', depth=2),
    'byoanet': TimmNetwork('halonet_h1', 256),
    'byobnet': TimmNetwork('test_byobnet'),
    'cait': resized('cait_xxs24_224', depth=2),
    'coat': resized('coat_tiny'),
    'convit': resized('convit_tiny'),
    'convmixer': TimmNetwork('convmixer_768_32'),
    'convnext': TimmNetwork('test_convnext'),
    'cpubone': TimmNetwork('cpubone_nano'),
    'crossvit': TimmNetwork('crossvit_tiny_240', 240),
    'csatv2': TimmNetwork('csatv2'),
    'cspnet': TimmNetwork('cs3darknet_focus_s'),
    'cspnext': TimmNetwork('cspnext_tiny'),
    'davit': TimmNetwork('davit_tiny'),
    'deepseek_vit': TimmNetwork('deepseek_vit_412m', 56, dict(depth=1)),
    'deit': resized('deit_tiny_patch16_224'),
    'densenet': TimmNetwork('densenet121'),
    'dla': TimmNetwork('dla46x_c'),
    'dpn': TimmNetwork('dpn48b'),
    'edgenext': TimmNetwork('edgenext_xx_small'),
    'efficientformer': TimmNetwork('efficientformer_l1', 224),
    'efficientformer_v2': resized('efficientformerv2_s0'),
    'efficientnet': TimmNetwork('test_efficientnet'),
    'efficientvim': TimmNetwork('efficientvim_m1'),
    'efficientvit_mit': TimmNetwork('efficientvit_b0'),
    'efficientvit_msra': TimmNetwork('efficientvit_m0'),
    'eva': TimmNetwork('vit_tiny_patch16_dinov3_qkvb'),
    'fasternet': TimmNetwork('fasternet_t0'),
    'fastvit': TimmNetwork('fastvit_t8'),
    'focalnet': TimmNetwork('focalnet_tiny_srf'),
    'gcvit': resized('gcvit_xxtiny'),
    'gemma4_vit': TimmNetwork('gemma4_vit_167m', options=dict(depth=2)),
    'ghostnet': TimmNetwork('ghostnet_050'),
    'hardcorenas': TimmNetwork('hardcorenas_b'),
    'hgnet': TimmNetwork('hgnetv2_b0'),
    'hiera': resized('hiera_tiny_224'),
    'hieradet_sam2': TimmNetwork('sam2_hiera_tiny'),
    'hrnet': TimmNetwork('hrnet_w18_small'),
    'iformer': TimmNetwork('iformer_t'),
    'inception_next': TimmNetwork('inception_next_atto'),
    'inception_resnet_v2': TimmNetwork('inception_resnet_v2', 96),
    'inception_v3': TimmNetwork('inception_v3', 96),
    'inception_v4': TimmNetwork('inception_v4', 96),
    'lcnetv2': TimmNetwork('lcnetv2_small'),
    'levit': resized('levit_128s'),
    'lowformer': TimmNetwork('lowformer_b0'),
    'mambaout': TimmNetwork('test_mambaout'),
    'maxxvit': resized('test_coatnet'),
    'metaformer': TimmNetwork('poolformerv2_s12'),
    'mlp_mixer': resized('gmlp_ti16_224'),
    'mobilenetv3': TimmNetwork('mobilenetv3_small_050'),
    'mobilenetv5': TimmNetwork('mobilenetv5_base'),
    'mobilevit': TimmNetwork('mobilevit_xxs'),
    'mvitv2': TimmNetwork('mvitv2_tiny'),
    'naflexvit': TimmNetwork('naflexvit_base_patch16_parfac_gap', options=dict(depth=2)),
    'nasnet': TimmNetwork('nasnetalarge', 96),
    'nest': resized('nest_tiny'),
    'nextvit': TimmNetwork('nextvit_small'),
    'nfnet': TimmNetwork('test_nfnet'),
    'pit': resized('pit_ti_224'),
    'pnasnet': TimmNetwork('pnasnet5large', 96),
    'pvt_v2': TimmNetwork('pvt_v2_b0'),
    'qwen3_vit': TimmNetwork('qwen3_vit_88m', options=dict(depth=2)),
    'rdnet': TimmNetwork('rdnet_tiny'),
    'regnet': TimmNetwork('regnetx_002'),
    'repghost': TimmNetwork('repghostnet_050'),
    'repvit': TimmNetwork('repvit_m1'),
    'res2net': TimmNetwork('res2next50'),
    'resnest': TimmNetwork('resnest14d'),
    'resnet': TimmNetwork('test_resnet'),
    'resnetv2': TimmNetwork('resnetv2_18'),
    'rexnet': TimmNetwork('rexnet_100'),
    'selecsls': TimmNetwork('selecsls42'),
    'senet': TimmNetwork('legacy_seresnet18'),
    'sequencer': TimmNetwork('sequencer2d_s'),
    'shvit': TimmNetwork('shvit_s1'),
    'sknet': TimmNetwork('skresnet18'),
    'starnet': TimmNetwork('starnet_s050'),
    'swiftformer': TimmNetwork('swiftformer_xs'),
    'swin_transformer': resized('swin_tiny_patch4_window7_224'),
    'swin_transformer_v2': resized('swinv2_tiny_window16_256'),
    'swin_transformer_v2_cr': resized('swinv2_cr_tiny_224'),
    'tiny_vit': TimmNetwork('tiny_vit_5m_224'),
    'tnt': resized('tnt_s_legacy_patch16_224', depth=2),
    'tresnet': TimmNetwork('tresnet_m'),
    'twins': TimmNetwork('twins_svt_small'),
    'vgg': TimmNetwork('vgg11'),
    'visformer': resized('visformer_tiny'),
    'vision_transformer': TimmNetwork('test_vit'),
    'vision_transformer_hybrid': resized('vit_tiny_r_s16_p8_224'),
    'vision_transformer_relpos': resized('test_vit_relpos'),
    'vision_transformer_sam': resized('samvit_base_patch16_224', depth=2),
    'vitamin': resized('vitamin_small_224'),
    'volo': resized('volo_d1_224'),
    'vovnet': TimmNetwork('ese_vovnet19b_slim_dw'),
    'xception': TimmNetwork('legacy_xception'),
    'xception_aligned': TimmNetwork('xception41p'),
    'xcit': TimmNetwork('xcit_nano_12_p8_224'),
}
