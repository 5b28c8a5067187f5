"""Takes the student out of a checkpoint, writes it, and compares what was written with what was trained."""
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, DefaultScope
from mmengine.utils import to_2tuple
from torch import Tensor

from mmkd_atsc.checkpoints.read import load_strictly, read_checkpoint, weights_of
from mmkd_atsc.errors.messages import describe
from mmkd_atsc.models.binding import image_channels
from mmkd_atsc.version import __version__

from .config import build_training, student_config
from .formats import FORMATS, Deployed, Run, check_packages, write
from .images import deployed_image_size, takes_rgb

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
                   image_size: int | tuple[int, int] | None = None) -> ExportReport:
    """Writes ``student.py`` and ``student.pth``, which MMPretrain loads, and the student in other formats.

    What is written is read again and must give the logits of the checkpoint; until then nothing is in ``out_dir``. A
    format that fails does not keep the others from being written; the error at the end names it.

    Args:
        half: Store the weight matrices of ``student.pth`` in half precision.
        with_preprocessing: The formats take pixels and normalise them.
        image_size: Side of the images, or height and width, where the config's test pipeline does not say it.
    """
    check_packages(formats)
    out_dir, size = Path(out_dir), to_2tuple(image_size) if image_size else None
    if out_dir.is_file():
        raise ValueError(f'{out_dir}: is a file, not a folder to write into')
    content, trained = read_checkpoint(str(checkpoint)), build_training(config)
    load_strictly(trained, weights_of(content, str(checkpoint)), str(checkpoint),
                  role=f'the model of {config.filename}' if config.filename else None)
    trained.eval()  # not chained: MMRazor's own returns nothing
    source = getattr(trained, 'architecture', trained)
    deployed = student_config(config, size, trained)
    pixels = torch.randint(0, 256, (3, image_channels(source), *(size or deployed_image_size(deployed))),
                           generator=torch.Generator().manual_seed(0))
    expected = logits_of(source, preprocess(trained, pixels))
    meta: dict = dict(source=Path(checkpoint).name, mmkd_atsc_version=__version__)
    classes = ((content.get('meta') or {}).get('dataset_meta') or {}).get('classes')
    if isinstance(classes, (list, tuple)) and len(classes) == expected.shape[1]:
        meta['dataset_meta'] = dict(classes=list(map(str, classes)))
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir, prefix='.export-') as folder:
        aside = Path(folder)
        (aside / 'student.py').write_text(_HEADER + deployed.pretty_text)
        torch.save(dict(state_dict=student_weights(source, half), meta=meta), aside / 'student.pth')
        student = read_student(aside / 'student.py', aside / 'student.pth')
        logits = logits_of(student, preprocess(student, pixels))
        differences = dict(checkpoint=check_difference('student.pth', logits, expected, HALF if half else EXACT))
        network, failed = Deployed(student, with_preprocessing), []
        in_order = pixels.flip(1) if getattr(student.data_preprocessor, 'to_rgb', False) else pixels
        inputs = in_order.float() if network.normalises else preprocess(student, pixels)
        notes = _notes(network, deployed, meta)
        for name in formats:
            try:
                run = write(name, network, inputs, aside / FORMATS[name].file, notes)
                differences[name] = check_runs(FORMATS[name].file, run, inputs, logits)
            except Exception as error:  # of a check, or of the format's own runtime
                failed.append(describe(error))
        files = {name: FORMATS[name].file if name in FORMATS else 'student.pth' for name in differences}
        for file in ('student.py', *files.values()):
            os.replace(aside / file, out_dir / file)
        for name in set(formats) - set(files):
            (out_dir / FORMATS[name].file).unlink(missing_ok=True)  # an earlier export's, of other weights
    if failed:
        raise ValueError(f'{"; ".join(failed)}; written to {out_dir}: student.py, {", ".join(files.values())}')
    parameters, trained_parameters = (sum(map(Tensor.numel, model.parameters())) for model in (student, trained))
    return ExportReport({name: out_dir / file for name, file in files.items()}, out_dir / 'student.py', differences,
                        parameters, trained_parameters)


def student_weights(student: BaseModel, half: bool = False) -> dict[str, Tensor]:
    """The student's weights, with copies of those of the classifiers that it shares with its teachers."""
    weights, release = student.state_dict(), getattr(getattr(student, 'head', None), 'release', None)
    if release:
        weights.update((f'head.{key}', value) for key, value in release().state_dict().items())
    if half:  # not the vectors: they are few, and norms multiply everything by them
        weights = {key: value.half() if value.is_floating_point() and value.dim() > 1 else value
                   for key, value in weights.items()}
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
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        raise TypeError(f'{type(network).__name__} gives a {type(logits).__name__}, logits (N, classes) are needed')
    return logits


def check_difference(name: str, logits: Tensor, expected: Tensor, allowed: float) -> float:
    """The largest difference of two sets of logits; refused above ``allowed`` times their size (1 at the least)."""
    difference = (logits.float() - expected).abs().max().item()
    limit = allowed * max(1.0, expected.abs().max().item())
    if not difference <= limit:  # nan too
        raise ValueError(f'{name} does not predict what the checkpoint does: its logits differ by {difference:.2g}, '
                         f'at most {limit:.2g} is allowed')
    return difference


def check_runs(name: str, run: Run, images: Tensor, expected: Tensor) -> float:
    """:func:`check_difference` of another runtime, for all of the images, and for one alone."""
    try:
        answers = torch.cat([run(images), run(images[:1])])
    except Exception as error:  # each runtime has its own
        raise ValueError(f'{name}: the network, as this format sees it, takes {len(images)} images at a time and no '
                         'other number') from error
    return check_difference(name, answers, torch.cat([expected, expected[:1]]), OTHER_RUNTIME)


def _notes(network: Deployed, deployed: Config, meta: dict) -> dict[str, str]:
    """What someone who has only the one file needs to know, as text."""
    preprocessor = network.network.data_preprocessor
    mean, std = ([round(value, 4) for value in getattr(preprocessor, name).flatten().tolist()]
                 if hasattr(preprocessor, name) and not network.normalises else None for name in ('mean', 'std'))
    order = 'RGB' if takes_rgb(deployed) else 'BGR'
    return dict(channels='grey' if image_channels(network) == 1 else order, mean=json.dumps(mean), std=json.dumps(std),
                classes=json.dumps(meta.get('dataset_meta', {}).get('classes')))
