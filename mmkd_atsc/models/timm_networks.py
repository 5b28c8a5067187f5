"""timm's networks as teachers: how they normalise, and their encoder and classifier, by timm's own interface."""
from types import SimpleNamespace

import torch
from mmengine.model import BaseModel, BaseModule
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead, TimmClassifier
from torch import Tensor, nn

from .binding import find_features, image_channels, own_sizes
from .normalization import statistics, takes_rgb


class TimmEncoder(BaseModule):
    """A network of timm up to its last map; or whole, where its last layer is taken out."""

    def __init__(self, network: nn.Module, spatial: bool) -> None:
        super().__init__()
        self.network, self.spatial = network, spatial

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.network.forward_features(images) if self.spatial else self.network(images)
        return (features, ) if isinstance(features, Tensor) else tuple(features)


def as_image_classifier(model: BaseModel, role: str) -> BaseModel:
    """A ``TimmClassifier`` as an ``ImageClassifier`` that has taken its parameters over; any other model as it is.

    The classifier is its last linear layer. The encoder ends with a map (N, C, H, W) where that layer reads the map's
    mean, as in most CNNs; else with the vector that it reads. An image tells, not a list of networks.
    """
    if not isinstance(model, TimmClassifier):
        return model
    network, classifier = model.model, model.model.get_classifier()
    layers = [part for part in getattr(classifier, 'modules', tuple)() if isinstance(part, (nn.Linear, nn.Conv2d))]
    layer, read = layers[-1] if layers else nn.Linear(1, 1), []
    hook = layer.register_forward_pre_hook(lambda layer, inputs: read.append(inputs[0].flatten(1)))
    found = find_features({role: TimmEncoder(network, True), 'logits': network}, [64, *own_sizes(network), 224])
    hook.remove()
    feature, logits = found[role], found['logits']
    head, neck = _linear_head(layer, model.loss_module), GlobalAveragePooling()
    if not read or not _gives(head, read[-1], logits):
        raise ValueError(f"{role}: the answer of timm's {type(network).__name__} is not that of one last linear layer, "
                         'so there is no classifier to share; AEKT takes it')
    spatial = feature.dim() == 4 and _gives(head, neck(feature), logits)
    path, = (path for path, module in network.named_modules() if module is layer)
    owner, _, name = path.rpartition('.')
    setattr(network.get_submodule(owner), name, nn.Identity())  # its parameters are the head's now
    return ImageClassifier(TimmEncoder(network, spatial), neck if spatial else None, head,
                           data_preprocessor=model.data_preprocessor)


def _linear_head(layer: nn.Linear | nn.Conv2d, loss: nn.Module) -> LinearClsHead:
    """A head with the parameters of a layer, which may be a 1x1 convolution."""
    weight = layer.weight.detach().flatten(1)
    head = LinearClsHead(*weight.shape, loss=loss)
    head.fc.weight = nn.Parameter(weight)
    head.fc.bias = nn.Parameter(torch.zeros_like(weight[:, 0]) if layer.bias is None else layer.bias.detach())
    return head.requires_grad_(layer.weight.requires_grad)


@torch.no_grad()
def _gives(head: LinearClsHead, vector: Tensor, logits: Tensor) -> bool:
    if vector.shape[1] != head.in_channels or logits.shape != (len(vector), head.num_classes):
        return False
    return torch.allclose(head((vector, )), logits, rtol=1e-4, atol=1e-4)


def timm_normalization(model: nn.Module, student: nn.Module) -> SimpleNamespace | None:
    """How timm normalises images for a network of its own, in the place of a data preprocessor; None for others.

    It takes RGB. A student that swaps no channels sees those that are read: RGB of CIFAR's arrays, or BGR of files,
    which its mean then shows by rising, as photographs are brightest in red.
    """
    stats = getattr(getattr(model, 'model', None), 'pretrained_cfg', None)
    if not isinstance(model, TimmClassifier) or not stats or image_channels(model) != len(stats['mean']):
        return None
    mean, std = (255 * torch.tensor(stats[name]) for name in ('mean', 'std'))
    student_mean, _ = statistics(student)
    return SimpleNamespace(mean=mean, std=std, to_rgb=takes_rgb(student) or bool(student_mean[0] < student_mean[-1]))
