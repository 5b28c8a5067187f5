"""The student as one file that runs without its Python code: ONNX, TorchScript, an exported program."""
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import torch
from mmengine.model import BaseModel
from mmpretrain.models.utils import ShiftWindowMSA
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice

Run = Callable[[Tensor], Tensor]


class Deployed(nn.Module):
    """Images to logits; ``with_preprocessing`` it normalises them itself. The channels are in the network's order."""

    def __init__(self, network: BaseModel, with_preprocessing: bool = False) -> None:
        super().__init__()
        self.network = network
        preprocessor = network.data_preprocessor
        self.normalises = with_preprocessing and getattr(preprocessor, 'mean', None) is not None
        if self.normalises:
            self.register_buffer('mean', preprocessor.mean.clone())
            self.register_buffer('std', preprocessor.std.clone())
        # All of it, this module too: after its work the ONNX exporter puts all parts into the mode of the whole.
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        if self.normalises:
            images = (images - self.mean) / self.std
        return self.network(images, mode='tensor')


def write_onnx(network: Deployed, images: Tensor, path: Path, notes: dict[str, str]) -> None:
    """ONNX by PyTorch's first exporter: the newer one needs onnxscript, and gives these networks nothing more."""
    import onnx
    # PyTorch would print the whole graph of a network that it cannot export.
    torch._C._jit_set_onnx_log_enabled(False)
    with mock.patch.object(torch._C, '_jit_set_onnx_log_enabled', lambda enabled: None):
        torch.onnx.export(network, (images, ), str(path), dynamo=False, opset_version=17, input_names=['images'],
                          output_names=['logits'], dynamic_axes=dict(images={0: 'batch'}, logits={0: 'batch'}))
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, notes)
    onnx.save(model, str(path))


def load_onnx(path: Path) -> Run:
    """What runs an ONNX file on the CPU, with as many threads as PyTorch has."""
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    return lambda images: torch.from_numpy(session.run(['logits'], {'images': images.numpy()})[0])


def write_torchscript(network: Deployed, images: Tensor, path: Path, notes: dict[str, str]) -> None:
    torch.jit.save(torch.jit.trace(network, (images, ), check_trace=False), str(path), _extra_files=notes)


def write_exported_program(network: Deployed, images: Tensor, path: Path, notes: dict[str, str]) -> None:
    shapes = ({0: torch.export.Dim('batch', min=1, max=1 << 16)}, )
    program = torch.export.export(network, (images, ), dynamic_shapes=shapes, strict=False)
    torch.export.save(program, str(path), extra_files=notes)


class Format(NamedTuple):
    file: str
    write: Callable[[Deployed, Tensor, Path, dict[str, str]], None]
    load: Callable[[Path], Run]
    packages: tuple = ()


FORMATS = {
    'onnx': Format('student.onnx', write_onnx, load_onnx, ('onnx', 'onnxruntime')),
    'torchscript': Format('student.torchscript.pt', write_torchscript, lambda path: torch.jit.load(str(path))),
    'exported_program': Format('student.pt2', write_exported_program,
                               lambda path: torch.export.load(str(path)).module()),
}


def check_packages(formats: Sequence[str]) -> None:
    """Refuses formats that do not exist, or whose packages are not installed."""
    for name in formats:
        packages = FORMATS[check_choice('formats', name, FORMATS)].packages
        missing = [package for package in packages if find_spec(package) is None]
        if missing:
            raise ImportError(f'{name} needs {" and ".join(missing)}: pip install {" ".join(missing)}')


def window_reverse(windows: Tensor, height: int, width: int, window_size: int) -> Tensor:
    """Swin's windows as maps again. MMPretrain's own counts the images in Python, which fixes their number."""
    channels = windows.shape[-1]
    rows, columns = height // window_size, width // window_size
    maps = windows.view(-1, rows, columns, window_size, window_size, channels).permute(0, 1, 3, 2, 4, 5)
    return maps.reshape(-1, height, width, channels)


def write(name: str, network: Deployed, images: Tensor, path: Path, notes: dict[str, str]) -> Run:
    """Writes a format, and returns what runs the file."""
    form = FORMATS[name]
    any_batch = mock.patch.object(ShiftWindowMSA, 'window_reverse', staticmethod(window_reverse))
    with warnings.catch_warnings(), any_batch, torch.no_grad():
        # Both tracers warn of each check of a shape in Python, which is right as it is: only the batch varies.
        warnings.simplefilter('ignore')
        try:
            form.write(network, images, path, notes)
        except Exception as error:  # each exporter has its own
            why = ' '.join(str(error).split())[:200]
            raise ValueError(f'{form.file}: PyTorch cannot write this network in this format: {why}') from error
        return form.load(path)
