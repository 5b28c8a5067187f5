"""An exported student in int8, by onnxruntime."""
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

from torch import Tensor


def quantize(file: Path, images: Iterable[Tensor], out: Path, weight_bits: int = 8) -> None:
    """Quantises an ONNX file of :func:`mmkd_atsc.export.export_student`; ``images`` are batches to calibrate on.

    Activations have 8 bits between the smallest and the largest value that the images give; weights have a range of
    their own in each channel. On x86 processors without VNNI sums may overflow, but not with ``weight_bits=7``.
    """
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
    batches = (dict(images=batch.numpy()) for batch in images)
    quant_pre_process(file, out)
    quantize_static(out, out, SimpleNamespace(get_next=lambda: next(batches, None)), per_channel=True,
                    reduce_range=weight_bits == 7, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
