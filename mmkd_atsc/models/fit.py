"""The projector that fits a student to a teacher, found by looking at one feature of each."""
from typing import Any, Dict, Tuple, Union

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_number

from .build import build_network, resolve_network
from .classifier import Encoder, classifies_inside, last_feature, split_classifier


def fit_projector(student: Union[dict, BaseModel], teacher: Union[dict, BaseModel],
                  image_size: Union[int, Tuple[int, int]] = 224) -> Dict[str, Any]:
    """The options of the ``FeatureProjector`` between a student's backbone and a teacher's encoder.

    One random image goes through both, in eval mode and without gradients; nothing of a built model changes. The
    student's own neck and head are not looked at: the projector and the shared classifier take their places.

    Args:
        student: An MMPretrain ``ImageClassifier``, as a config or built.
        teacher: Likewise; one that can be split into encoder and classifier.
        image_size: Height and width of the images that they will be trained on, one number where they are the same.

    Returns:
        dict: ``in_channels``, ``out_channels``, ``spatial`` (False where the teacher's feature is a vector),
        ``out_size`` (a number or a pair for the teacher's map, None for vectors), ``final_relu`` (whether none of the
        teacher's values is negative).

    >>> student, teacher = (dict(
    ...     type='mmpretrain.ImageClassifier', neck=dict(type='GlobalAveragePooling'),
    ...     backbone=dict(type='mmkd_atsc.CIFARResNet', depth=8, widths=(4, 4, 4, channels)),
    ...     head=dict(type='LinearClsHead', num_classes=10, in_channels=channels)) for channels in (8, 16))
    >>> fit_projector(student, teacher, image_size=32)
    {'in_channels': 8, 'out_channels': 16, 'spatial': True, 'out_size': 8, 'final_relu': True}
    """
    height, width = image_size if isinstance(image_size, (list, tuple)) and len(image_size) == 2 else [image_size] * 2
    for side in (height, width):
        check_number('image_size', side, low=1, integer=True)
    with torch.random.fork_rng(devices=[]):  # building and looking draw random numbers, which a run must not notice
        return _fit(_built(student, 'student'), _built(teacher, 'teacher'), (height, width))


def _built(network: Union[dict, BaseModel], role: str) -> BaseModel:
    return build_network(network if isinstance(network, BaseModel) else resolve_network(network, role), role)


def _fit(student: BaseModel, teacher: BaseModel, image_size: Tuple[int, int]) -> Dict[str, Any]:
    backbone = getattr(student, 'backbone', None)
    if backbone is None:
        raise ValueError(f'student: the {type(student).__name__} has no backbone, '
                         'an mmpretrain.ImageClassifier is needed')
    if classifies_inside(backbone):
        raise ValueError(f'student: {type(backbone).__name__} classifies inside the backbone and gives no feature'
                         f'{" (set num_classes=-1)" if hasattr(backbone, "num_classes") else ""}')
    encoder = split_classifier(teacher, 'teacher').encoder
    given, wanted = _feature(backbone, 'student', image_size), _feature(encoder, 'teacher', image_size)
    _check_kinds(backbone, given, teacher.backbone, wanted)
    spatial = wanted.dim() == 4
    height_and_width = tuple(wanted.shape[2:])
    return dict(
        in_channels=given.shape[1], out_channels=wanted.shape[1], spatial=spatial,
        out_size=(height_and_width[0] if len(set(height_and_width)) == 1 else height_and_width) if spatial else None,
        final_relu=bool((wanted >= 0).all()))


def image_channels(network: nn.Module) -> int:
    """How many channels the images of a network have: those that its first convolution reads.

    >>> image_channels(nn.Sequential(nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)))
    1
    """
    return next((layer.in_channels for layer in network.modules() if isinstance(layer, nn.Conv2d)), 3)


def _feature(encoder: nn.Module, role: str, image_size: Tuple[int, int]) -> Tensor:
    """The encoder's last feature for one random image; the encoder stays as it is."""
    modes = {module: module.training for module in encoder.modules()}
    like = next(encoder.parameters(), torch.zeros(()))
    image = torch.randn(1, image_channels(encoder), *image_size, generator=torch.Generator().manual_seed(0)).to(like)
    try:
        encoder.eval()  # not chained: some of MMPretrain's backbones return None
        with torch.no_grad():
            features = encoder(image)
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        why = str(error).strip().partition('\n')[0] or type(error).__name__
        size = 'x'.join(map(str, image_size))
        raise ValueError(f'{role}: its {_name(encoder)} cannot read images of {size} ({why}); '
                         'set image_size, or img_size in the backbone') from error
    finally:
        for module, training in modes.items():
            module.training = training
    return last_feature(features, f'{role}: {_name(encoder)}')


def _check_kinds(backbone: nn.Module, given: Tensor, teacher_backbone: nn.Module, wanted: Tensor) -> None:
    """Refuses features that no projector reads, and a map that would have to be made of a vector."""
    for role, module, feature in (('student', backbone, given), ('teacher', teacher_backbone, wanted)):
        tokens = feature.dim() == 3 and role == 'student' and getattr(module, 'out_type', None) != 'raw'
        if feature.dim() not in (2, 4) and not tokens:
            hint = " (out_type='raw')" if getattr(module, 'out_type', None) == 'raw' else ''
            raise ValueError(f'{role}: its {type(module).__name__}{hint} gives a feature of shape '
                             f'{tuple(feature.shape)}, a vector (N, C) or a map (N, C, H, W) is needed')
    if wanted.dim() == 4 and given.dim() != 4:
        hint = ''.join(f'; set {key}={value!r} in its backbone' for key, value in map_options(backbone).items())
        raise ValueError(f'student: its {type(backbone).__name__} gives no map, but a feature of shape '
                         f'{tuple(given.shape)}, and the teacher a map of shape {tuple(wanted.shape)}{hint}')


def map_options(backbone: nn.Module) -> Dict[str, Any]:
    """The options by which a backbone that gives a vector gives a map instead, none where it has no such option.

    >>> from mmpretrain.models.backbones import ConvNeXt
    >>> map_options(ConvNeXt('atto'))
    {'gap_before_final_norm': False}
    """
    if 'featmap' in getattr(backbone, 'OUT_TYPES', ()):
        return dict(out_type='featmap')
    return dict(gap_before_final_norm=False) if getattr(backbone, 'gap_before_final_norm', False) is True else {}


def _name(encoder: nn.Module) -> str:
    return type(encoder[0] if isinstance(encoder, Encoder) else encoder).__name__
