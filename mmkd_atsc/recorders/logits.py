"""Where a network's logits are, how they are read from what it gives, and how many they are."""
from typing import Any

from mmpretrain.models.classifiers import HuggingFaceClassifier, TimmClassifier
from torch import nn

# Classifiers of other packages inside MMPretrain's, which have no head, and their modules in place of a head's.
WRAPPERS = (TimmClassifier, HuggingFaceClassifier)
IN_WRAPPER = {'head': 'model', 'head.loss_module': 'loss_module'}


def find_source(network: nn.Module, source: str, as_tensor: bool = False) -> str:
    """The module that a recorder's source means in a network.

    In a network without a head, 'head' means the network itself (''), whose output are the logits in mode 'tensor'.
    With ``as_tensor`` also Hugging Face's classifier stands for its model, whose output is no tensor.

    >>> find_source(nn.Linear(2, 3), 'head')
    ''
    """
    if hasattr(network, 'head'):
        return source
    if isinstance(network, WRAPPERS):
        source = IN_WRAPPER.get(source, source)
        return '' if as_tensor and source == 'model' else source
    return '' if source == 'head' else source


def read_logits(output: Any) -> Any:
    """The ``logits`` of an object that has them, as Hugging Face's networks give; any other output as it is."""
    return getattr(output, 'logits', output)


def count_classes(network: nn.Module) -> int | None:
    """The number of classes that a network says it has."""
    # LeNet and VGG classify in the backbone, networks of other packages as a whole.
    for part in ('head', '', 'backbone', 'model'):
        owner = getattr(network, part, None) if part else network
        for name in ('num_classes', 'num_labels'):
            count = getattr(owner, name, None)
            if isinstance(count, int) and count > 0:
                return count
    return None


def count_outputs(network: nn.Module) -> int:
    """The outputs of a network's last linear layer or convolution: its number of classes, if nothing else says it."""
    layers = [layer for layer in network.modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    return len(layers[-1].weight) if layers else 0
