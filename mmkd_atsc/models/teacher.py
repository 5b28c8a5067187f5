"""A teacher: a network, the checkpoint it must come from, the input it was trained on."""
import hashlib
from typing import Any, Dict, List, Optional, Union

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmkd_atsc.engine.checkpoint import load_strictly, read_weights

from .classifier import Classifier, last_feature
from .network import build_network, resolve_network
from .normalization import Renormalize


class Teacher(nn.Module):
    """A network that teaches, used once or several times by the algorithms.

    Frozen (the default), it runs in eval mode without gradients and computes no loss of its own. ``adapting`` lets it
    learn. Its weights come from a checkpoint, strictly; a random one must be asked for.

    Args:
        network: Config dict, ``package::path``, config file, or a built model.
        checkpoint: File or URL of its weights. None with ``pretrained=True`` in the config: the zoo's.
        student_preprocessor: What made the batch, so that the teacher's own normalisation can be put in its place.
        allow_random: Accept a teacher without a checkpoint.
        name: How messages and metrics call it.
    """

    def __init__(self, network: Union[dict, str, BaseModel], checkpoint: Optional[str] = None,
                 student_preprocessor: Optional[nn.Module] = None, allow_random: bool = False,
                 name: str = 'teacher') -> None:
        super().__init__()
        self.name = name
        own_preprocessor = is_built = isinstance(network, BaseModel)
        if not is_built:
            network = resolve_network(network, name)
            own_preprocessor = network.model.get('data_preprocessor') is not None
            checkpoint = checkpoint or network.weights
        self.model = build_network(network, name)
        self.adapting = False
        self.start_is_unknown = False
        # Zero until a checkpoint is read: then a resumed run can tell whether it has the same teacher.
        self.register_buffer('fingerprint', torch.zeros(16, dtype=torch.uint8))
        self._load(checkpoint, allow_random, is_built)
        self.model.requires_grad_(False)
        self.renormalize = Renormalize(student_preprocessor or self.model.data_preprocessor,
                                       self.model.data_preprocessor if own_preprocessor else None)

    def _load(self, checkpoint: Optional[str], allow_random: bool, is_built: bool) -> None:
        if checkpoint:
            load_strictly(self.model, read_weights(checkpoint), checkpoint, role=self.name)
            self.model._is_init = True
            self.fingerprint.copy_(fingerprint(self.model.state_dict()))
        elif allow_random:
            if not is_built:  # a built model may have been trained
                self.model.init_weights()
        else:
            raise ValueError(f'{self.name} has no checkpoint: set teacher_ckpt '
                             '(or allow_random_teacher=True, for tests)')

    def forward(self, images: Tensor) -> Any:
        """The teacher's answer to the student's batch; gradients only while it adapts."""
        with torch.set_grad_enabled(self.adapting and torch.is_grad_enabled()):
            return self.model(self.renormalize(images), mode='tensor')

    def adapt(self, adapting: bool) -> None:
        """Lets the whole network learn, or freezes it as it is now."""
        self.adapting = adapting
        self.model.requires_grad_(adapting)
        if not adapting:
            for parameter in self.model.parameters():
                parameter.grad = None  # an optimizer moves what has a gradient, were it only by momentum

    def encode(self, images: Tensor, keep_statistics: bool = False) -> Any:
        """The encoder's features; with ``keep_statistics`` batch norm uses the batch but does not count it."""
        backbone, images = self.model.backbone, self.renormalize(images)
        with torch.set_grad_enabled(self.adapting and torch.is_grad_enabled()):
            if not keep_statistics:
                return backbone(images)
            buffers = {name: buffer.clone() for name, buffer in backbone.named_buffers()}
            return torch.func.functional_call(backbone, buffers, (images, ))

    def classifier_loss(self, features: Any, data_samples: list) -> Dict[str, Tensor]:
        """The head's own loss on features that get no gradient from it."""
        classifier = Classifier(self.model.neck, self.model.head)
        return classifier(last_feature(features, self.name).detach(), data_samples, method='loss')

    def predict(self, images: Tensor, data_samples: Optional[list]) -> list:
        return self.model(self.renormalize(images), data_samples, mode='predict')

    def train(self, mode: bool = True) -> 'Teacher':
        return super().train(mode and self.adapting)

    def _load_from_state_dict(self, state_dict: Dict[str, Tensor], prefix: str, *args) -> None:
        own, saved = self.fingerprint.cpu(), state_dict.get(f'{prefix}fingerprint', torch.zeros(1)).cpu()
        if own.any() and saved.any() and not torch.equal(own, saved):
            raise ValueError(f'the checkpoint was trained with another {self.name} than teacher_ckpt gives; '
                             'resume with the teacher that the run was started with')
        # Scoring needs no more than what is loaded now; an anchor would need the weights that it began with.
        self.start_is_unknown = bool(saved.any() and not own.any())
        super()._load_from_state_dict(state_dict, prefix, *args)


def fingerprint(weights: Dict[str, Tensor]) -> Tensor:
    """16 bytes that tell two sets of weights apart (BLAKE2b over names and values)."""
    digest = hashlib.blake2b(digest_size=16)
    for key, value in weights.items():
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes() if value.dim()
                      else value.detach().cpu().reshape(1).view(torch.uint8).numpy().tobytes())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)


def named_teachers(teacher: Any, teacher_ckpt: Any = None) -> Dict[str, tuple]:
    """``{name: (network, checkpoint)}`` from one teacher, a list of them, or a dict of named ones.

    >>> named_teachers(dict(type='Net'), 'a.pth')
    {'teacher': ({'type': 'Net'}, 'a.pth')}
    >>> list(named_teachers([dict(type='Net'), dict(type='Net')], ['a.pth', 'b.pth']))
    ['teacher0', 'teacher1']
    >>> list(named_teachers(dict(big=dict(type='Net'), small=dict(type='Net'))))
    ['big', 'small']
    """
    if isinstance(teacher, (list, tuple)):
        networks = {f'teacher{i}': network for i, network in enumerate(teacher)}
    elif isinstance(teacher, dict) and not {'type', 'cfg_path'} & teacher.keys():
        networks = dict(teacher)
    else:
        networks = {'teacher': teacher}
    if not networks:
        raise ValueError('teacher is empty: at least one is needed')
    return {name: (networks[name], path) for name, path in
            zip(networks, _checkpoints(list(networks), teacher_ckpt))}


def _checkpoints(names: List[str], teacher_ckpt: Any) -> List[Optional[str]]:
    if teacher_ckpt is None:
        return [None] * len(names)
    if isinstance(teacher_ckpt, dict):
        if set(teacher_ckpt) != set(names):
            raise ValueError(f'teacher_ckpt is for {", ".join(teacher_ckpt)}, the teachers are {", ".join(names)}')
        return [teacher_ckpt[name] for name in names]
    paths = [teacher_ckpt] if isinstance(teacher_ckpt, str) else list(teacher_ckpt)
    if len(paths) != len(names):
        raise ValueError(f'teacher_ckpt has {len(paths)} files for {len(names)} teachers ({", ".join(names)})')
    return paths
