"""An exported student in int8: quantised on images of its training, scored and timed beside fp32."""
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from mmengine import registry as roots
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import Tensor

from analysis.tables import markdown
from benchmark.measure import median_times, processor
from mmkd_atsc.export.config import build_training, plain
from mmkd_atsc.export.formats import load_onnx
from mmkd_atsc.export.images import innermost
from mmkd_atsc.export.int8 import quantize
from mmkd_atsc.registry import class_of

FILE = 'student_int8.onnx'
CALIBRATION_IMAGES = 256
REPEATS = 50  # of a latency
COLUMNS = ('file', 'MB', 'top-1 %', 'ms')


class DeployedImages:
    """Images and labels of a training, as its exported network takes them; the data is read when this is made.

    Calibration draws from the training images. Where they are read as the validation's are, they go through the
    validation's pipeline, which augments nothing; else they come as the training's data loader gives them.
    """

    def __init__(self, config: Config, with_preprocessing: bool = False) -> None:
        training, validation = (plain(config[f'{stage}_dataloader'].to_dict()) for stage in ('train', 'val'))
        seen, tested = innermost(training), innermost(validation)
        kinds = [class_of(dataset, registry=roots.DATASETS) for dataset in (seen, tested)]
        pipelines = [list(dataset.get('pipeline') or ()) for dataset in (seen, tested)]
        if kinds[0] is kinds[1] or pipelines[0][:1] == pipelines[1][:1]:
            training = {**validation, 'dataset': {**seen, 'pipeline': pipelines[1]} if any(pipelines) else seen,
                        'sampler': dict(type='DefaultSampler', shuffle=True)}
        with DefaultScope.overwrite_default_scope(config.get('default_scope') or 'mmpretrain'):
            self._training, self._validation = (Runner.build_dataloader(loader, seed=0)
                                                for loader in (training, validation))
        self._preprocessor = build_training(config).data_preprocessor
        self._as_pixels = with_preprocessing and getattr(self._preprocessor, 'mean', None) is not None

    def calibration(self, count: int) -> Iterator[Tensor]:
        """``count`` training images, or all where there are fewer, in batches; the same each time."""
        for images, _ in self._batches(self._training):
            yield images[:count]
            count -= len(images)
            if count <= 0:
                return

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """All validation images and their labels, in batches."""
        return self._batches(self._validation)

    def _batches(self, loader: Iterable) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in loader:
            batch = self._preprocessor(batch)
            images = batch['inputs'].float()
            # Scores too, one-hot here, stand in the samples of a training with Mixup.
            labels = [sample.gt_label for sample in batch['data_samples'] if 'gt_label' in sample]
            yield (images * self._preprocessor.std + self._preprocessor.mean if self._as_pixels else images,
                   torch.cat(labels) if labels else torch.empty(0))


def add_int8(file: Path, images: DeployedImages, max_drop: float = 1.0, weight_bits: int = 8) -> str:
    """Writes the int8 file beside an ONNX file, and returns the table of both; refuses one that loses too much."""
    import onnxruntime
    out = file.with_name(FILE)
    out.unlink(missing_ok=True)  # an earlier export's, of other weights
    check_images(file, images)
    with tempfile.TemporaryDirectory(dir=file.parent, prefix='.int8-') as folder:
        files = file, Path(folder, FILE)
        quantize(file, images.calibration(CALIBRATION_IMAGES), files[1], weight_bits)
        accuracies, total = top1(files, images)
        drop = accuracies[0] - accuracies[1]
        if drop > max_drop:
            raise ValueError(
                f'{FILE} is not written: it loses {drop:.2f} points of top-1 accuracy ({accuracies[0]:.2f} % in fp32, '
                f'{accuracies[1]:.2f} % in int8), at most {max_drop:g} is allowed; --max-drop allows more, '
                '--weight-bits 7 helps on an x86 processor without VNNI; the other files are written')
        rows = [(path.name, f'{path.stat().st_size / 1e6:.2f}', f'{accuracy:.2f}', f'{1e3 * seconds:.2f}')
                for path, accuracy, seconds in zip(files, accuracies, latencies(files, images))]
        os.replace(files[1], out)
    return (f'{markdown(COLUMNS, rows, left=COLUMNS[:1])}\n\n'
            f'top-1 on {total:,} validation images; ms: processor time of one image on one thread, the median of '
            f'{REPEATS}; onnxruntime {onnxruntime.__version__}, {processor()}')


def check_images(file: Path, images: DeployedImages) -> None:
    """Refuses data that gives no images, or images of another size than an ONNX file takes."""
    import onnx
    shape = onnx.load(file).graph.input[0].type.tensor_type.shape.dim
    height, width = (side.dim_value for side in shape[2:])
    for stage, batches in dict(train=images.calibration(1), val=(batch for batch, _ in images.validation())).items():
        first = next(iter(batches), None)
        if first is None:
            raise ValueError(f'{FILE} is not written: {stage}_dataloader gives no batch; is it larger than the data?')
        if first.shape[2:] != (height, width):
            raise ValueError(f'{FILE} is not written: {stage}_dataloader gives images of {first.shape[2]}x'
                             f'{first.shape[3]}, {file.name} takes {height}x{width}')


def top1(files: Sequence[Path], images: DeployedImages) -> tuple[list[float], int]:
    """The accuracy of each ONNX file in percent, and the number of validation images."""
    runs, right, total = [load_onnx(path) for path in files], [0] * len(files), 0
    for inputs, labels in images.validation():
        if labels.shape != (len(inputs), ):
            raise ValueError('top-1 accuracy needs validation images with one label each')
        total += len(labels)
        for place, run in enumerate(runs):
            right[place] += int((run(inputs).argmax(1) == labels).sum())
    return [100 * count / total for count in right], total


def latencies(files: Sequence[Path], images: DeployedImages) -> list[float]:
    """Seconds of one thread's processor time that each ONNX file takes for one image."""
    image, threads = next(images.calibration(1)), torch.get_num_threads()
    torch.set_num_threads(1)
    runs = {path.name: load_onnx(path) for path in files}
    torch.set_num_threads(threads)
    times = median_times({name: lambda run=run: run(image) for name, run in runs.items()}, REPEATS,
                         clock=time.thread_time)
    return list(times.values())
