"""A teacher: a network with the weights of a checkpoint and its own input normalisation."""
import hashlib
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmkd_atsc.checkpoints.read import load_strictly, read_weights
from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.errors.messages import first_line
from mmkd_atsc.recorders.logits import count_classes

from .build import build_network, resolve_network
from .classifier import SplitNetwork, last_feature, split_classifier
from .normalization import Renormalize
from .timm_networks import timm_normalization

# Words that stand beside a teacher's name in a loss mapping, a metric or a recorder.
RESERVED_NAMES = ('student', 'distill', 'all', 'mean_prob', 'mean_logit', 'confidence', 'vote')


class Teacher(nn.Module):
    """A network that teaches. Frozen (the default), it runs in eval mode without gradients; ``adapt`` lets it learn.

    Args:
        network: Config dict, ``package::path``, config file, or a built model.
        checkpoint: File or URL of its weights, loaded strictly. None with ``pretrained=True`` in the config: the zoo's,
            or those that timm and Hugging Face fetch.
        student_preprocessor: The data preprocessor whose images the teacher gets; None: its own.
        allow_random: Accept a teacher without a checkpoint.
        name: Its name in messages and metrics.
    """

    def __init__(self, network: dict | str | BaseModel, checkpoint: str | None = None,
                 student_preprocessor: nn.Module | None = None, allow_random: bool = False,
                 name: str = 'teacher') -> None:
        super().__init__()
        self.name = name
        is_built, fetches = isinstance(network, BaseModel), False
        if is_built:  # MMPretrain gives every network one, which normalises nothing if the config has none
            own_preprocessor = getattr(getattr(network, 'data_preprocessor', None), '_enable_normalize', True)
        else:
            network = resolve_network(network, name)
            own_preprocessor = network.model.get('data_preprocessor') is not None
            checkpoint = checkpoint or network.weights
            if network.model.get('pretrained') is True:  # timm and Hugging Face fetch them
                fetches = network.model['pretrained'] = not checkpoint
        self.model = fetch_network(network, name) if fetches else build_network(network, name)
        self.adapting = False
        self.start_is_unknown = False
        # By it a resumed run knows whether it has the same teacher. Zero without a checkpoint.
        self.register_buffer('fingerprint', torch.zeros(16, dtype=torch.uint8))
        self.origin = checkpoint or ('pretrained=True' if fetches else 'no checkpoint')
        # This process's own fingerprint: distributed training overwrites the buffer with the first process's.
        self.loaded: bytes | None = None
        if checkpoint:
            load_strictly(self.model, read_weights(checkpoint), checkpoint, role=name)
        if checkpoint or fetches:
            self.model._is_init = True
            self.fingerprint.copy_(fingerprint(self.model.state_dict()))
            self.loaded = bytes(self.fingerprint.tolist())
        elif not allow_random:
            raise ValueError(f'{name} has no checkpoint: set teacher_ckpt (or allow_random_teacher=True, for tests)')
        elif not is_built:  # a built model may have been trained
            self.model.init_weights()
        self.model.requires_grad_(False)
        student_preprocessor = student_preprocessor or self.model.data_preprocessor
        self.renormalize = Renormalize(student_preprocessor, self.model.data_preprocessor if own_preprocessor else
                                       timm_normalization(self.model, student_preprocessor))

    def forward(self, images: Tensor, data_samples: list | None = None) -> Any:
        """The teacher's answer to the student's batch; gradients only while it adapts."""
        with torch.set_grad_enabled(self.adapting and torch.is_grad_enabled()):
            return self.model(self.renormalize(images), data_samples, mode='tensor')

    def adapt(self, adapting: bool) -> None:
        """Lets the whole network learn, or freezes it as it is."""
        self.adapting = adapting
        self.model.requires_grad_(adapting)
        if not adapting:
            for parameter in self.model.parameters():
                parameter.grad = None  # with a gradient, even of zero, momentum would move it

    def encode(self, images: Tensor, keep_statistics: bool = False) -> Any:
        """The encoder's features; with ``keep_statistics`` batch norm's running statistics stay as they are."""
        encoder, images = self.split.encoder, self.renormalize(images)
        with torch.set_grad_enabled(self.adapting and torch.is_grad_enabled()):
            if not keep_statistics:
                return encoder(images)
            buffers = {name: buffer.clone() for name, buffer in encoder.named_buffers()}
            return torch.func.functional_call(encoder, buffers, (images, ))

    def classifier_loss(self, features: Any, data_samples: list) -> dict[str, Tensor]:
        """The head's loss on features, which get no gradient."""
        return self.split.classifier(last_feature(features, self.name).detach(), data_samples, method='loss')

    def predict(self, images: Tensor, data_samples: list | None) -> list:
        return self.model(self.renormalize(images), data_samples, mode='predict')

    def train(self, mode: bool = True) -> 'Teacher':
        return super().train(mode and self.adapting)

    @property
    def split(self) -> SplitNetwork:
        """The network's encoder and classifier; refused for networks that cannot be split."""
        return split_classifier(self.model, self.name)

    @property
    def num_classes(self) -> int | None:
        """The network's number of classes, if it says so."""
        return count_classes(self.model)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args) -> None:
        own, saved = self.fingerprint.cpu(), state_dict.get(f'{prefix}fingerprint', torch.zeros(1)).cpu()
        brings_weights = any(key.startswith(f'{prefix}model.') for key in state_dict)
        if own.any() and (saved.any() or brings_weights) and not torch.equal(own, saved):
            raise ValueError(f'the checkpoint was trained with another {self.name} than teacher_ckpt gives; '
                             'resume with the teacher that the run was started with')
        # Scoring needs only the weights that are loaded now; an anchor needs those that training began with.
        self.start_is_unknown = bool(saved.any() and not own.any())
        super()._load_from_state_dict(state_dict, prefix, *args)


def fetch_network(source: Any, name: str) -> BaseModel:
    """Builds a network whose weights timm or Hugging Face fetches; they must be those of its classifier too."""
    try:
        model = build_network(source, name)
    except OSError as error:
        raise ValueError(f'{name}: its weights could not be fetched ({first_line(error)}); give a file of them as '
                         'teacher_ckpt') from error
    published = (getattr(model.model, 'pretrained_cfg', None) or {}).get('num_classes')
    asked = source.model.get('num_classes', source.model.get('num_labels', published))
    if asked != published:
        raise ValueError(f'{name}: pretrained=True gives no weights for a classifier of {asked} classes; '
                         'give teacher_ckpt')
    return model


def fingerprint(weights: dict[str, Tensor]) -> Tensor:
    """16 bytes that tell two sets of weights apart (BLAKE2b over names and values)."""
    digest = hashlib.blake2b(digest_size=16)
    for key, value in weights.items():
        digest.update(key.encode())
        # Flattened: in channels_last a 1x1 kernel counts as contiguous and still has other strides.
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)


class TeacherSource(NamedTuple):
    """A teacher in a config."""

    network: Any
    checkpoint: str | None = None
    weight: float = 1.0


def named_teachers(teacher: Any, teacher_ckpt: Any = None, teacher_weights: Any = None) -> dict[str, TeacherSource]:
    """The sources by name, from one teacher, a list of them, or a dict of named ones; the weights sum to one.

    >>> named_teachers(dict(type='Net'), 'a.pth')
    {'teacher': TeacherSource(network={'type': 'Net'}, checkpoint='a.pth', weight=1.0)}
    """
    if isinstance(teacher, (list, tuple)):
        networks = {f'teacher{i}': network for i, network in enumerate(teacher)}
    elif isinstance(teacher, dict) and not {'type', 'cfg_path'} & teacher.keys():
        networks = dict(teacher)
    else:
        networks = {'teacher': teacher}
    if not networks:
        raise ValueError('teacher is empty: at least one is needed')
    for name in networks:
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f'teacher: {name!r} cannot be a name: use letters, digits and underscores')
        if 'loss' in name or name in RESERVED_NAMES or hasattr(nn.ModuleDict, name):  # MMEngine finds losses by name
            raise ValueError(f"teacher: {name!r} cannot be a name: it has a meaning already, or holds 'loss'")
    checkpoints = for_each('teacher_ckpt', list(networks), teacher_ckpt)
    teacher_weights = [1] * len(networks) if teacher_weights is None else teacher_weights
    weights = for_each('teacher_weights', list(networks), teacher_weights)
    for name, weight in zip(networks, weights):
        check_number(f'teacher_weights: {name}', weight, above=0)
    return {name: TeacherSource(networks[name], checkpoint, weight / sum(weights))
            for name, checkpoint, weight in zip(networks, checkpoints, weights)}


def for_each(option: str, names: list[str], values: Any) -> list:
    """One value a teacher, from a single value, a list in their order, or a dict by their names."""
    if values is None:
        return [None] * len(names)
    if isinstance(values, dict):
        if set(values) != set(names):
            raise ValueError(f'{option} is for {", ".join(map(str, values))}, the teachers are {", ".join(names)}')
        return [values[name] for name in names]
    values = list(values) if isinstance(values, (list, tuple)) else [values]
    if len(values) != len(names):
        raise ValueError(f'{option} has {len(values)} entries for {len(names)} teachers ({", ".join(names)})')
    return values
