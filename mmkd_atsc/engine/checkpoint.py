"""The one way by which weights enter: read safely, checked strictly, refused in one line."""
import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Dict, Iterable, Mapping, Optional
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

WEIGHT_ENTRIES = ('state_dict', 'model', 'net', 'teacher', 'model_state_dict')

# What torch.load raises on files that are no checkpoints: the unpickler interprets any bytes it is given.
UNREADABLE = (pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, EOFError, OSError, ValueError, LookupError,
              TypeError, AttributeError, struct.error)


def read_checkpoint(path: str) -> dict:
    """A checkpoint's content, with ``weights_only=True``: tensors and plain values, never code.

    Args:
        path: A local file, or the URL of one (fetched once, kept in torch's hub cache).
    """
    local = _fetch(path) if urlparse(str(path)).scheme in ('http', 'https') else Path(path)
    if not local.is_file():
        raise FileNotFoundError(f'{path}: no such checkpoint')
    if local.stat().st_size == 0:
        raise ValueError(f'{path}: the file is empty')
    try:
        content = torch.load(local, map_location='cpu', weights_only=True)
    except UNREADABLE as error:
        raise ValueError(f'{path}: {_why_unreadable(local, error)}') from None
    if not isinstance(content, Mapping):
        raise ValueError(f'{path}: holds a {type(content).__name__}, not a dictionary of weights')
    return dict(content)


def _fetch(url: str) -> Path:
    """Downloads to torch's hub cache; the hash in an OpenMMLab file name (``-f257d4e6.pth``) is verified by torch."""
    name = Path(urlparse(url).path).name
    target = Path(torch.hub.get_dir()) / 'checkpoints' / name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        found = torch.hub.HASH_REGEX.search(name)
        try:
            torch.hub.download_url_to_file(url, str(target), found.group(1) if found else None, progress=False)
        except (OSError, RuntimeError) as error:
            raise ValueError(f'{url}: could not be downloaded ({error})') from None
    return target


def _why_unreadable(path: Path, error: Exception) -> str:
    head = path.open('rb').read(64).lstrip().lower()
    if head.startswith((b'<!doctype', b'<html', b'<?xml')):
        return 'is a web page, not a checkpoint; download the file itself'
    if head.startswith(b'version https://git-lfs'):
        return 'is a git-lfs pointer, not a checkpoint; run git lfs pull'
    forbidden = re.search(r'GLOBAL (\S+)|(getattr)\(', str(error))
    if forbidden:
        return f'asks for code to be run ({forbidden.group(0)}), only tensors and plain values are loaded'
    why = ' '.join(str(error).split())
    advice = why.startswith('Weights only load failed')  # PyTorch's page on how to switch the safety off
    return 'is truncated or not a checkpoint' + ('' if advice or not why else f' ({why[:120]})')


def weights_of(content: Mapping, origin: str) -> Dict[str, Tensor]:
    """The state dict inside a checkpoint (one of :data:`WEIGHT_ENTRIES`, or bare), without ``module.`` prefixes."""
    entry = next((content[key] for key in WEIGHT_ENTRIES if isinstance(content.get(key), Mapping)), content)
    weights = {key: value for key, value in entry.items() if isinstance(key, str)}
    if not weights or not any(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f'{origin}: holds no weights; its entries are {", ".join(map(str, list(content)[:6]))}')
    if all(key.startswith('module.') for key in weights):
        weights = {key[len('module.'):]: value for key, value in weights.items()}
    broken = [key for key, value in weights.items()
              if isinstance(value, Tensor) and value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f'{origin}: {_some(broken)} holds nan or inf')
    return weights


def read_weights(path: str) -> Dict[str, Tensor]:
    """:func:`weights_of` the checkpoint at ``path``."""
    return weights_of(read_checkpoint(path), str(path))


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], origin: str, role: Optional[str] = None) -> None:
    """Loads weights that fit ``module`` exactly; anything missing, left over or of another shape is refused.

    Args:
        module: What the weights are for.
        weights: Its state dict.
        origin: The file they came from, for the message.
        role: Whose weights these should be, for the message. Default: the module's type.
    """
    own = module.state_dict()
    problem = misfit(own, weights)
    if problem:
        raise ValueError(f'{origin} does not fit {role or type(module).__name__}: {problem}')
    module.load_state_dict({**own, **weights}, strict=True)


def misfit(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """What keeps ``weights`` from being loaded in place of ``own``, in one line; '' if they fit.

    >>> misfit(nn.Linear(2, 1).state_dict(), {'weight': torch.zeros(1, 3), 'scale': torch.ones(1)})
    '1 missing (bias); 1 unexpected (scale); 1 of another shape (weight (1, 3) for (1, 2))'
    """
    # Files written before PyTorch counted batches lack this counter; nothing that we train reads it.
    missing = [key for key in own if key not in weights and not key.endswith('num_batches_tracked')]
    unexpected = [key for key in weights if key not in own]
    shapes = [f'{key} {_shape(weights[key])} for {_shape(own[key])}' for key in own
              if key in weights and isinstance(own[key], Tensor) and _shape(weights[key]) != _shape(own[key])]
    problems = [f'{len(keys)} {what} ({_some(keys)})' for what, keys in
                (('missing', missing), ('unexpected', unexpected), ('of another shape', shapes)) if keys]
    return f'{"; ".join(problems)}{_hint(missing, unexpected)}' if problems else ''


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _some(keys: list, count: int = 2) -> str:
    return ', '.join(keys[:count]) + (', ...' if len(keys) > count else '')


def _hint(missing: list, unexpected: list) -> str:
    if not (missing and unexpected):
        return ''
    if any(key.startswith('architecture.') for key in unexpected):
        return '; this is the checkpoint of a distillation, not of a network'
    if any(key.startswith('fc.') or key.startswith('classifier') or key == 'conv1.weight' for key in unexpected):
        return '; a checkpoint of another repository is brought over by tools/model_converters/convert_teacher.py'
    return ''


def check_teacher_names(weights: Iterable[str], teachers: Iterable[str], prefix: str = 'teachers.') -> None:
    """Refuses weights of other teachers, or of the same in another order: the optimizer knows them by their places.

    >>> check_teacher_names(['teachers.big.fingerprint', 'teachers.small.fingerprint'], ['small', 'big'])
    Traceback (most recent call last):
    ValueError: the checkpoint was trained with the teachers big, small; the config gives small, big
    """
    saved = list(dict.fromkeys(key[len(prefix):].split('.')[0] for key in weights if key.startswith(prefix)))
    if saved and saved != list(teachers):
        raise ValueError(f'the checkpoint was trained with the teachers {", ".join(saved)}; '
                         f'the config gives {", ".join(teachers)}')
