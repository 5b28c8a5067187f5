"""Takes the student out of a checkpoint, writes it, and compares what was written with what was trained."""
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import Tensor

from mmkd_atsc.checkpoints.read import load_strictly, read_checkpoint, weights_of
from mmkd_atsc.errors.checks import check_choice
from mmkd_atsc.models.binding import image_channels
from mmkd_atsc.models.build import build_network
from mmkd_atsc.registry import class_of
from mmkd_atsc.version import __version__

from .config import (
    forget_teacher_checkpoints,
    is_ours,
    shared_head,
    student_config,
    teacher_sources,
    without_pretrained,
)
from .formats import FORMATS, Deployed, write
from .images import configured_image_size, evaluated_dataset, height_and_width, takes_rgb

# The largest difference of two sets of logits that is allowed, relative to the largest logit. Half precision rounds
# each weight to 11 bits; another runtime adds up in another order.
EXACT, HALF, OTHER_RUNTIME = 1e-6, 2e-2, 1e-4

_HEADER = """# A trained network alone; its weights are in the .pth file beside this one.
#     mmpretrain.ImageClassificationInferencer('student.py', pretrained='student.pth')('image.png')
# Images are files, or arrays in BGR as OpenCV reads them.
"""


class ExportReport(NamedTuple):
    """The files by name (``checkpoint``, ``onnx``, ...), and for each the largest difference of a logit."""

    files: dict[str, Path]
    config: Path
    differences: dict[str, float]
    parameters: int
    trained_parameters: int

    def __str__(self) -> str:
        width = max(len(str(path)) for path in self.files.values())
        lines = [f'{self.config}: {self.parameters:,} parameters of the {self.trained_parameters:,} in the checkpoint']
        lines += [f'{str(path):<{width}}  {path.stat().st_size / 1e6:8.2f} MB  largest difference of a logit '
                  f'{self.differences[name]:.1e}' for name, path in self.files.items()]
        return '\n'.join(lines)


@torch.no_grad()
def export_student(config: Config, checkpoint: str | Path, out_dir: str | Path, formats: Sequence[str] = (),
                   half: bool = False, with_preprocessing: bool = False,
                   image_size: int | str | Sequence[int] | None = None) -> ExportReport:
    """Writes ``student.py`` and ``student.pth``, which MMPretrain loads, and the student in other formats.

    What is written is read again and must give the logits of the checkpoint; until then nothing is in ``out_dir``.

    Args:
        config: The config of the training.
        checkpoint: A checkpoint of it. Everything is in there: no teacher's own file is read, nothing is downloaded.
        out_dir: Where to write.
        formats: Some of :data:`FORMATS`.
        half: Store the weight matrices of ``student.pth`` in half precision.
        with_preprocessing: The formats take pixels and normalise them.
        image_size: Side of the images, or height and width, where the config's test pipeline does not say it.
    """
    for name in formats:
        FORMATS[check_choice('formats', name, FORMATS)].check_packages(name)
    size, out_dir = height_and_width(image_size), Path(out_dir)
    if out_dir.exists() and not out_dir.is_dir():
        raise ValueError(f'{out_dir}: is a file, not a folder to write into')
    deployed = student_config(config, size)
    size = size or configured_image_size(evaluated_dataset(deployed))
    if size is None:
        raise ValueError('nothing in the test pipeline of the config says how large an image is; give --image-size')
    content = read_checkpoint(str(checkpoint))
    trained = load_trained(config, weights_of(content, str(checkpoint)), str(checkpoint))
    source = getattr(trained, 'architecture', trained)
    pixels = torch.randint(0, 256, (3, image_channels(source), *size), generator=torch.Generator().manual_seed(0))
    expected = logits_of(source, preprocess(trained, pixels))
    weights = student_weights(source, deployed)
    meta = _meta(content, config, expected.shape[1], Path(checkpoint).name)
    out_dir.mkdir(parents=True, exist_ok=True)
    files = dict(checkpoint='student.pth', **{name: FORMATS[name].file for name in formats})
    with tempfile.TemporaryDirectory(dir=out_dir, prefix='.export-') as folder:
        aside = Path(folder)
        (aside / 'student.py').write_text(_HEADER + deployed.pretty_text)
        if half:  # not the vectors: they are few, and norms multiply everything by them
            weights = {key: value.half() if value.is_floating_point() and value.dim() > 1 else value
                       for key, value in weights.items()}
        torch.save(dict(state_dict=weights, meta=meta), aside / 'student.pth')
        student = read_student(aside / 'student.py', aside / 'student.pth')
        inputs = preprocess(student, pixels)
        logits = logits_of(student, inputs)
        differences = dict(checkpoint=check_difference('student.pth', logits, expected, HALF if half else EXACT))
        network = Deployed(student, with_preprocessing)
        if with_preprocessing:  # what the preprocessor does before it normalises
            inputs = (pixels.flip(1) if getattr(student.data_preprocessor, 'to_rgb', False) else pixels).float()
        for name in formats:
            run = write(name, network, inputs, aside / files[name], _notes(network, deployed, meta))
            differences[name] = check_runs(files[name], run, inputs, logits)
        for name in ('student.py', *files.values()):
            os.replace(aside / name, out_dir / name)
    parameters, trained_parameters = (sum(map(Tensor.numel, model.parameters())) for model in (student, trained))
    return ExportReport({name: out_dir / file for name, file in files.items()}, out_dir / 'student.py', differences,
                        parameters, trained_parameters)


def load_trained(config: Config, weights: dict[str, Tensor], checkpoint: str) -> BaseModel:
    """The model of a training with the weights of its checkpoint, which must fit exactly."""
    filename, config = config.filename, Config(without_pretrained(config))
    forget_teacher_checkpoints(config)
    model = config.model.to_dict()
    if config.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', config.data_preprocessor)
    if 'teacher' in model and is_ours(model):
        # Built here, they are taken as they are; the algorithm would initialise them, for nothing.
        teachers = {name: build_network(source, name) for name, source in teacher_sources(model).items()}
        model['teacher'] = teachers['teacher'] if list(teachers) == ['teacher'] else teachers
    with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'mmpretrain'):
        network = MODELS.build(model)
    load_strictly(network, weights, checkpoint, role=f'the model of {filename}' if filename else None)
    network.eval()  # MMRazor's own returns nothing
    return network


def student_weights(student: BaseModel, deployed: Config) -> dict[str, Tensor]:
    """The student's weights, with copies of those of the classifiers that it shares with its teachers."""
    weights, head = student.state_dict(), deployed.to_dict()['model'].get('head')
    kind = shared_head(head)
    if kind:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            owned = student.head.release().state_dict()
        weights.update((f'head.{key}', value) for key, value in owned.items())
    return {key: value.detach().clone(memory_format=torch.contiguous_format) for key, value in weights.items()}


def read_student(config: Path, checkpoint: Path) -> BaseModel:
    """The network that an export wrote."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        student = MODELS.build(Config.fromfile(config).model)
    load_strictly(student, weights_of(read_checkpoint(str(checkpoint)), checkpoint.name), checkpoint.name)
    return student.eval()


def preprocess(model: BaseModel, pixels: Tensor) -> Tensor:
    return model.data_preprocessor(dict(inputs=pixels))['inputs'].float()


def logits_of(network: BaseModel, images: Tensor) -> Tensor:
    """The network's logits; an output that is not one tensor of them is refused."""
    logits = network(images, mode='tensor')
    if isinstance(logits, Tensor) and logits.dim() == 2:
        return logits
    what = f'of shape {tuple(logits.shape)}' if isinstance(logits, Tensor) else f'that is a {type(logits).__name__}'
    raise TypeError(f'{type(network).__name__} gives an output {what}; one tensor of logits (N, classes) is needed')


def check_difference(name: str, logits: Tensor, expected: Tensor, allowed: float) -> float:
    """The largest difference of two sets of logits; refused above ``allowed`` times their size (1 at the least).

    >>> check_difference('student.onnx', torch.tensor([[1.5, 4.]]), torch.tensor([[1.5, 4.]]), 1e-4)
    0.0
    """
    if logits.shape != expected.shape:
        raise ValueError(f'{name} gives an output of shape {tuple(logits.shape)}, the checkpoint one of '
                         f'{tuple(expected.shape)}')
    difference = (logits.float() - expected).abs().max().item()
    limit = allowed * max(1.0, expected.abs().max().item())
    if not difference <= limit:  # nan too
        raise ValueError(f'{name} does not predict what the checkpoint does: its logits differ by {difference:.2g}, '
                         f'at most {limit:.2g} is allowed; nothing was written')
    return difference


def check_runs(name: str, run: Callable[[Tensor], Tensor], images: Tensor, expected: Tensor) -> float:
    """:func:`check_difference` of another runtime, for all of the images, and for one alone."""
    difference = check_difference(name, run(images), expected, OTHER_RUNTIME)
    try:
        return max(difference, check_difference(name, run(images[:1]), expected[:1], OTHER_RUNTIME))
    except Exception as error:  # each runtime has its own
        raise ValueError(f'{name}: the network, as this format sees it, takes {len(images)} images at a time and no '
                         'other number; nothing was written') from error


def _meta(content: dict, config: Config, num_classes: int, source: str) -> dict:
    """Where it came from, and the names of the classes as MMPretrain reads them; all plain values."""
    meta, dataset = content.get('meta') or {}, evaluated_dataset(config)
    kind = class_of(dataset, config.get('default_scope') or 'mmpretrain', DATASETS)
    classes: Any = (
        (meta.get('dataset_meta') or {}).get('classes') or (dataset.get('metainfo') or {}).get('classes')
        or getattr(kind, 'METAINFO', {}).get('classes'))
    named = isinstance(classes, (list, tuple)) and len(classes) == num_classes
    return dict(source=source, mmkd_atsc_version=__version__,
                **(dict(dataset_meta=dict(classes=list(map(str, classes)))) if named else {}))


def _notes(network: Deployed, deployed: Config, meta: dict) -> dict[str, str]:
    """What someone who has only the one file needs to know, as text."""
    preprocessor = network.network.data_preprocessor
    mean, std = ([round(value, 4) for value in getattr(preprocessor, name).flatten().tolist()]
                 if hasattr(preprocessor, name) and not network.normalises else None for name in ('mean', 'std'))
    order = 'RGB' if takes_rgb(deployed) else 'BGR'
    return dict(channels='grey' if image_channels(network) == 1 else order, mean=json.dumps(mean), std=json.dumps(std),
                classes=json.dumps(meta.get('dataset_meta', {}).get('classes')))
