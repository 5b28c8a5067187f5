"""Reads checkpoints safely, loads weights strictly, and refuses bad ones in one line."""
import copy
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from mmengine.runner import CheckpointLoader, checkpoint
from torch import Tensor, nn

from .download import fetch, is_url
from .find import BUNDLED, find_checkpoint

WEIGHT_ENTRIES = ('state_dict', 'model', 'net', 'teacher', 'model_state_dict')

AVERAGE_COUNTERS = ('steps', 'n_averaged')  # which MMEngine's and PyTorch's averaged models keep beside the weights
COUNTER = 'num_batches_tracked'  # old files lack it; nothing that we train reads it


def read_checkpoint(path: str) -> dict:
    """A checkpoint's content: tensors and plain values, never code.

    Args:
        path: A ``torch.save`` file or safetensors, as :func:`find_checkpoint` takes it, or a URL.
            ``run.pth#ema_state_dict`` takes that entry for the ``state_dict``, for averaged weights.
    """
    local, origin, entry = _locate(str(path))
    if local.stat().st_size == 0:
        raise ValueError(f'{origin}: the file is empty; copy or download it again')
    try:
        _refuse_compressed(local)
        content = (safetensors.torch.load(local.read_bytes()) if _is_safetensors(local) else
                   torch.load(local, map_location='cpu', weights_only=True))
    except Exception as error:  # the unpickler interprets any bytes it is given, and stumbles over them in any way
        raise ValueError(f'{origin}: {_why_unreadable(local, error)}') from None
    if not isinstance(content, Mapping):
        raise ValueError(f'{origin}: holds a {type(content).__name__}, not a dictionary of weights')
    if entry and not isinstance(content.get(entry), Mapping):
        raise ValueError(f'{origin}: has no weights {entry!r}{_choices(content, origin)}')
    return {**content, 'state_dict': content[entry]} if entry else dict(content)


def _locate(path: str) -> tuple[Path, str, str]:
    """The local file, what messages call it, and the entry that is asked for, or ''."""
    origin, _, entry = path.rpartition('#') if '#' in path and not Path(path).exists() else (path, '', '')
    if is_url(origin):
        return fetch(origin), origin, entry
    local = find_checkpoint(origin)
    return local, origin if local.name == Path(origin).name else f'{origin}/{local.name}', entry


def _is_safetensors(path: Path) -> bool:
    """By the name, or by the ninth byte, where neither a pickle nor a zip has a brace."""
    with path.open('rb') as file:
        return path.suffix == '.safetensors' or file.read(9)[8:] == b'{'


def _refuse_compressed(path: Path) -> None:
    """``torch.save`` does not compress; a file that becomes larger than it is would only fill the memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        if size > path.stat().st_size:
            raise ValueError(f'unpacks to {size:,} bytes, PyTorch writes no such files')


def _why_unreadable(path: Path, error: Exception) -> str:
    head = path.open('rb').read(64).lstrip().lower()
    if head.startswith((b'<!doctype', b'<html', b'<?xml')):
        return 'is a web page, not a checkpoint; download the file itself'
    if head.startswith(b'version https://git-lfs'):
        return 'is a git-lfs pointer, not a checkpoint; run git lfs pull'
    why = ' '.join(str(error).split())
    if 'TorchScript' in why:
        return 'is a TorchScript program, not a checkpoint; save its state_dict()'
    if forbidden := re.search(r'GLOBAL (\S+)|(getattr)\(', why):
        return f'asks for code to be run ({forbidden.group(0)}), only tensors and plain values are loaded'
    advice = why.startswith('Weights only load failed')  # PyTorch's page on how to switch the safety off
    return 'is truncated or not a checkpoint' + ('' if advice or not why else f' ({why[:120]})')


def weights_of(content: Mapping, origin: str) -> dict[str, Tensor]:
    """The state dict inside a checkpoint (one of :data:`WEIGHT_ENTRIES`, or bare), without ``module.`` prefixes."""
    entry = next((content[key] for key in WEIGHT_ENTRIES if isinstance(content.get(key), Mapping)), content)
    weights = {key: value for key, value in entry.items() if isinstance(key, str)}
    if not weights or not any(isinstance(value, Tensor) for value in weights.values()):
        entries = ', '.join(map(str, list(content)[:6])) or 'none'
        raise ValueError(f'{origin}: holds no weights; its entries are {entries}{_choices(content, origin)}')
    averaged = {key: value for key, value in weights.items() if key not in AVERAGE_COUNTERS}
    if all(key.startswith('module.') for key in averaged):
        weights = {key[len('module.'):]: value for key, value in averaged.items()}
    check_tensors(weights, origin)
    return weights


def _choices(content: Mapping, origin: str) -> str:
    names = [key for key, value in content.items() if isinstance(value, Mapping)
             and any(isinstance(inner, Tensor) for inner in value.values())]
    return f'; it can be given as {" or ".join(f"{origin}#{name}" for name in names)}' if names else ''


def check_tensors(weights: Mapping[str, Any], origin: str) -> None:
    """Refuses what is no plain tensor of finite numbers."""
    tensors = {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    # The size: an expanded tensor of one number can claim to be larger than any memory.
    strange = [key for key, value in tensors.items() if value.layout is not torch.strided or value.is_meta
               or value.is_quantized or value.is_floating_point() and value.itemsize == 1
               or value.numel() * value.element_size() > value.untyped_storage().nbytes()]
    if strange:
        raise ValueError(f'{origin}: {_some(strange)} is sparse, quantized or without data; save it as a plain tensor')
    broken = [key for key, value in tensors.items() if not torch.isfinite(value).all()]
    if broken:
        raise ValueError(f'{origin}: {_some(broken)} holds nan or inf; the training that wrote it had failed, take an '
                         'earlier checkpoint')


def read_weights(path: str) -> dict[str, Tensor]:
    """:func:`weights_of` the checkpoint at ``path``."""
    return weights_of(read_checkpoint(path), str(path))


def load_strictly(module: nn.Module, weights: Mapping[str, Tensor], origin: str, role: str | None = None) -> None:
    """Loads weights that fit ``module`` exactly; anything missing, left over or of another shape is refused.

    Messages name ``origin``, the file, and ``role``, whose weights they should be (default: the module's type).
    """
    own = module.state_dict()
    if all(key.startswith('model.') for key in weights) and not any(key.startswith('model.') for key in own):
        weights = {key[len('model.'):]: value for key, value in weights.items()}  # of a wrapper of another package
    problem = misfit(own, weights)
    if problem and not _adapts(module, weights):
        raise ValueError(f'{origin} does not fit {role or type(module).__name__}: {problem}')
    module.load_state_dict(_with_counters(weights, own), strict=True)


def _with_counters(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights and, after them, the counters that they lack: their order tells that of a model's teachers."""
    return {**weights, **{key: own[key] for key in own if key.endswith(COUNTER) and key not in weights}}


def _adapts(module: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Whether the network makes weights fit: some of MMPretrain's know older names, or resize their embeddings."""
    own = module.state_dict()
    if any(_is_quantized(own[key], weights[key]) for key in own.keys() & weights.keys()):
        return False  # PyTorch would copy integers as they are
    trial = copy.deepcopy(module)  # a load that fails has changed a part
    try:
        trial.load_state_dict(_with_counters(weights, own), strict=True)
    except (RuntimeError, LookupError, TypeError, AttributeError, ValueError, AssertionError):
        return False
    return True


def _is_quantized(own: object, value: object) -> bool:
    return (isinstance(own, Tensor) and isinstance(value, Tensor)
            and own.is_floating_point() and not value.is_floating_point())


def misfit(own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str:
    """Says in one line why ``weights`` do not fit a state dict ``own``; '' if they fit."""
    unexpected = [key for key in weights if key not in own]
    shared = {key: (weights[key], own[key]) for key in own if key in weights and isinstance(own[key], Tensor)}
    problems = {
        'missing': [key for key in own if key not in weights and not key.endswith(COUNTER)],
        'unexpected': unexpected,
        'of another shape': [f'{key} {_shape(new)} for {_shape(old)}' for key, (new, old) in shared.items()
                             if _shape(new) != _shape(old)],
        'of another type': [f'{key} {new.dtype} for {old.dtype}' for key, (new, old) in shared.items()
                            if _is_quantized(old, new)]}
    found = '; '.join(f'{len(keys)} {what} ({_some(keys)})' for what, keys in problems.items() if keys)
    return found and found + _hint(unexpected)


def _shape(value: object) -> object:
    return tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__


def _some(keys: list, count: int = 2) -> str:
    return ', '.join(keys[:count]) + (', ...' if len(keys) > count else '')


def _hint(unexpected: list[str]) -> str:
    """Which tool makes the weights fit, where their names tell."""
    if any(key.startswith('architecture.') for key in unexpected):
        return '; this is the checkpoint of a distillation: tools/export_student.py takes the student out of it'
    if any(re.match(r'fc\.|classifier|conv1\.weight$', key) for key in unexpected):
        return '; a checkpoint of another repository is brought over by tools/model_converters/convert_teacher.py'
    return ''


def check_teacher_names(weights: Iterable[str], teachers: Iterable[str], prefix: str = 'teachers.') -> None:
    """Refuses weights of other teachers, or of the same in another order: the optimizer knows them by their places."""
    saved = list(dict.fromkeys(key[len(prefix):].split('.')[0] for key in weights if key.startswith(prefix)))
    if saved and saved != list(teachers):
        raise ValueError(f'the checkpoint was trained with the teachers {", ".join(saved)}; '
                         f'the config gives {", ".join(teachers)}')


@CheckpointLoader.register_scheme(prefixes=BUNDLED, force=True)
def load_for_mmengine(filename: str, map_location: Any = None, **kwargs: Any) -> dict:
    """:func:`read_checkpoint` for MMEngine, without the config's text, which MMEngine would run on resuming."""
    content = read_checkpoint(filename)
    if isinstance(content.get('meta'), dict):
        content['meta'] = {key: value for key, value in content['meta'].items() if key != 'config'}
    return content


def read_safely_everywhere() -> None:
    """Makes MMEngine read every checkpoint by :func:`read_checkpoint`: of ``load_from``, ``resume``, ``Pretrained``.

    Its own loader runs the code in a file from a URL, and in a local one if an environment variable of PyTorch says so.
    """
    # By these names the loaders of its model zoos call it.
    checkpoint.load_from_local = checkpoint.load_from_http = load_for_mmengine
    CheckpointLoader.register_scheme(['', 'http://', 'https://'], load_for_mmengine, force=True)
