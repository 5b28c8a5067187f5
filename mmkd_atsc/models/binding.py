"""Binds a student to its teachers: the projector finds its options, the head gets the teachers' classifiers."""
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.utils import to_2tuple
from mmpretrain.models import TIMMBackbone
from torch import Tensor, nn

from mmkd_atsc.errors.messages import first_line

from .classifier import SplitNetwork, classifies_inside, last_feature


def bind_student(student: BaseModel, teachers: dict[str, SplitNetwork], weights: dict[str, float]) -> None:
    """Fits the student's projector to the teachers' features, and shares their classifiers with its head."""
    neck, head = getattr(student, 'neck', None), getattr(student, 'head', None)
    if (neck is None or head is None or not hasattr(head, 'bind_teachers')
            or (len(teachers) > 1 and not hasattr(neck, 'bind'))):
        raise TypeError('the student of AdaptiveTeacherDistill needs neck=dict(type="mmkd_atsc.FeatureProjector") and '
                        f'head=dict(type="mmkd_atsc.SharedClassifierHead"), not {type(neck).__name__} and '
                        f'{type(head).__name__}')
    if hasattr(neck, 'bind'):
        neck.bind(*probe(student, teachers, neck.image_size), weights)
    head.bind_teachers(teachers, weights)


def probe(student: BaseModel, teachers: dict[str, SplitNetwork],
          image_size: tuple[int, int] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """The features that the student's backbone and the teachers' encoders give for one random image.

    They run in eval mode and without gradients; no module and no random-number state changes.
    """
    backbone = student.backbone
    if classifies_inside(backbone):
        raise ValueError(f'student: {type(backbone).__name__} classifies inside the backbone and gives no feature'
                         f'{" (set num_classes=-1)" if hasattr(backbone, "num_classes") else ""}')
    encoders = {'student': backbone, **{name: split.encoder for name, split in teachers.items()}}
    sizes = [size for encoder in encoders.values() for size in own_sizes(encoder)]
    features = find_features(encoders, [image_size] if image_size else [*sizes, 64, 224])
    for role, feature in features.items():  # tokens (N, C, L), as of MlpMixer, are for the student's projector only
        kind = _backbone(encoders[role])
        channels = _timm_channels(kind.timm_model) if isinstance(kind, TIMMBackbone) else []
        if feature.shape[-1] in channels and feature.shape[1] not in channels:
            raise ValueError(f'{role}: its TIMMBackbone gives a feature of shape {tuple(feature.shape)} with the '
                             f'channels in another place than the second{_options_hint(kind)}')
        raw = " (out_type='raw')" if getattr(kind, 'out_type', None) == 'raw' else ''
        if feature.dim() not in (2, 4) and (feature.dim() != 3 or role != 'student' or raw):
            raise ValueError(f'{role}: its {type(kind).__name__}{raw} gives a feature of shape {tuple(feature.shape)}, '
                             'a vector (N, C) or a map (N, C, H, W) is needed')
    feature = features.pop('student')
    for name, target in features.items():
        if target.dim() == 4 and feature.dim() != 4:
            raise ValueError(f'student: its {type(backbone).__name__} gives no map, but a feature of shape '
                             f'{tuple(feature.shape)}, and the {name} a map of shape {tuple(target.shape)}'
                             f'{_options_hint(backbone)}')
    return feature, features


def _options_hint(backbone: nn.Module) -> str:
    options = ', '.join(f'{key}={value!r}' for key, value in map_options(backbone).items())
    return options and f'; set {options} in its backbone'


def _timm_channels(network: nn.Module) -> list[int]:
    """The channels that a network of timm may give, by what it says."""
    own = [getattr(network, name, 0) for name in ('num_features', 'head_hidden_size')]
    return own if any(own) else network.feature_info.channels()


def find_features(networks: dict[str, nn.Module], sizes: list[tuple[int, int] | int]) -> dict[str, Tensor]:
    """What each network gives for one random image, of the first size that all of them read."""
    failure = ValueError('no size is given')
    for size in sizes:
        try:
            return {role: _feature(network, role, size) for role, network in networks.items()}
        except ValueError as error:
            failure = error
    raise failure


def own_sizes(network: nn.Module) -> list[tuple[int, int]]:
    """The sizes of images that MMPretrain's and timm's networks say they take."""
    said = [getattr(module, 'img_size', None) for module in network.modules()]
    said += [cfg['input_size'][1:] for module in network.modules() if (cfg := getattr(module, 'pretrained_cfg', None))]
    return list(dict.fromkeys(to_2tuple(size) for size in said if size))


def _feature(encoder: nn.Module, role: str, image_size: int | tuple[int, int]) -> Tensor:
    height, width = image_size if isinstance(image_size, (list, tuple)) else [image_size] * 2
    modes = {module: module.training for module in encoder.modules()}
    like = next(encoder.parameters(), torch.zeros(()))
    image = torch.randn(1, image_channels(encoder), height, width, generator=torch.Generator().manual_seed(0)).to(like)
    encoder.eval()  # not chained: some of MMPretrain's backbones return None
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            features = encoder(image)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f'{role}: its {type(_backbone(encoder)).__name__} cannot read images of {height}x{width} '
                         f'({first_line(error)}); set image_size in the FeatureProjector, or img_size in the '
                         'backbone') from error
    finally:
        for module, training in modes.items():
            module.training = training
    return last_feature(features, f'{role}: {type(_backbone(encoder)).__name__}')


def _backbone(encoder: nn.Module) -> nn.Module:
    return getattr(encoder, 'backbone', encoder)


def image_channels(network: nn.Module) -> int:
    """The number of channels of a network's images: those that its first convolution reads."""
    channels = next((layer.in_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)), 3)
    # Some of timm's fold pixels into channels first, 2x2 of them or more.
    folded = any(hasattr(module, 'pretrained_cfg') for module in network.modules()) and channels >= 12
    return 3 if folded else channels


def map_options(backbone: nn.Module) -> dict[str, Any]:
    """The options that make a backbone give a map instead of a vector; empty for one without such options."""
    if isinstance(backbone, TIMMBackbone):
        return dict(features_only=True, out_indices=[-1], feature_cls='getter')
    if 'featmap' in getattr(backbone, 'OUT_TYPES', ()):
        return dict(out_type='featmap')
    return dict(gap_before_final_norm=False) if getattr(backbone, 'gap_before_final_norm', False) is True else {}
