"""A training step captured as a CUDA graph, with the memory that the graph reads and writes."""
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import Tensor, nn

Logs = dict[str, Any]


def tensors_of(data: Any) -> tuple[dict[str, Tensor], str | None]:
    """The images and the labels of a batch by name; and why no step for it can be captured, None where one can."""
    samples = data.get('data_samples') if isinstance(data, dict) else None
    if not isinstance(samples, Sequence) or set(data) != {'inputs', 'data_samples'}:
        return {}, 'a batch is not images with their data samples'
    if not isinstance(data['inputs'], Tensor):
        return {}, f'the images are a {type(data["inputs"]).__name__}, not one tensor'
    labels = label_tensors(samples)
    if not labels or any(value.device != data['inputs'].device for value in labels.values()):
        return {}, 'its samples have more or less than one label or score each, on the device of the images'
    return dict(inputs=data['inputs'], **labels), None


def label_tensors(samples: Any) -> dict[str, Tensor]:
    """The labels (N,) and scores (N, C) of data samples; {} where they have others, or not all the same."""
    if isinstance(getattr(samples, 'labels', None), Tensor):  # our preprocessor's, which makes no sample unasked
        return dict(gt_label=samples.labels)
    fields = [set(sample.keys()) - {'num_classes'} for sample in samples] or [set()]
    if not fields[0] or not fields[0] <= {'gt_label', 'gt_score'} or any(other != fields[0] for other in fields):
        return {}
    values = {field: [getattr(sample, field) for sample in samples] for field in sorted(fields[0])}
    shapes = {field: {value.shape for value in parts} for field, parts in values.items()}
    if any(len(found) > 1 for found in shapes.values()) or shapes.get('gt_label', {(1, )}) != {(1, )}:
        return {}
    return {field: torch.cat(parts) if field == 'gt_label' else torch.stack(parts) for field, parts in values.items()}


def kind_of(tensors: dict[str, Tensor]) -> tuple:
    """Names, sizes and types of a batch's images and labels."""
    return tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items())


def words(kind: tuple) -> str:
    """A kind of batch, for a message: ``(6, 3, 32, 32) with gt_label``."""
    return f'{kind[0][1]} with {" and ".join(name for name, *_ in kind[1:])}'


def samples_with(labels: dict[str, Tensor], count: int) -> list[DataSample]:
    """Data samples whose labels and scores are views of ``labels``: they change with it."""
    samples = [DataSample() for _ in range(count)]
    for field, values in labels.items():
        for sample, value in zip(samples, values.split(1) if field == 'gt_label' else values):
            sample.set_field(value, field)
    return samples


class CapturedStep:
    """Forward, losses and backward, captured for batches like ``tensors``.

    The gradients lie in the graph's memory. Between two steps no parameter has them: a usual step would add to them,
    and a checkpoint would hold them.
    """

    def __init__(self, model: BaseModel, optim_wrapper: OptimWrapper, tensors: dict[str, Tensor],
                 graph: type['Graph']) -> None:
        self._tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        inputs, labels = self._tensors['inputs'], {key: self._tensors[key] for key in tensors if key != 'inputs'}
        samples = samples_with(labels, len(inputs))
        self._gradients: list[tuple[nn.Parameter, Tensor]] = []
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

        def forward_and_backward() -> Logs:
            with optim_wrapper.optim_context(model):
                losses = model._run_forward(dict(inputs=inputs, data_samples=samples), mode='loss')
            total, logs = model.parse_losses(losses)
            total.backward()
            return {name: value.detach() if isinstance(value, Tensor) else value for name, value in logs.items()}

        self._graph = graph(forward_and_backward, self._parameters)

    def run(self, tensors: dict[str, Tensor]) -> Logs:
        """Forward, losses and backward for a batch; gradients are where an optimizer looks for them."""
        for name, tensor in tensors.items():
            self._tensors[name].copy_(tensor)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        self._graph.replay()
        if not self._gradients:
            self._gradients = [(parameter, parameter.grad) for parameter in self._parameters
                               if parameter.grad is not None]
        return copied(self._graph.logs)

    def detach_gradients(self) -> None:
        for parameter, _ in self._gradients:
            parameter.grad = None


def copied(logs: Logs) -> Logs:
    """Copies of what a graph returned, by one kernel if all are numbers of one type: the next replay overwrites it."""
    tensors = {name: value for name, value in logs.items() if isinstance(value, Tensor)}
    if len({(value.dtype, value.shape) for value in tensors.values()}) == 1:
        return {**logs, **dict(zip(tensors, torch.stack(list(tensors.values())).unbind()))}
    return {name: value.clone() if name in tensors else value for name, value in logs.items()}


class Graph:
    """A function of tensors, captured as a CUDA graph; ``logs`` is what it returned, overwritten by each replay."""

    _stream: torch.cuda.Stream | None = None

    def __init__(self, function: Callable[[], Logs], parameters: list[nn.Parameter]) -> None:
        self._graph = torch.cuda.CUDAGraph()
        # Only what this thread does is forbidden to interfere: others may pin memory for the next batch meanwhile.
        with torch.cuda.graph(self._graph, stream=self._side_stream(), capture_error_mode='thread_local'):
            self.logs = function()

    def replay(self) -> None:
        self._graph.replay()

    @classmethod
    def _side_stream(cls) -> torch.cuda.Stream:
        if cls._stream is None:
            cls._stream = torch.cuda.Stream()
        return cls._stream

    @classmethod
    @contextmanager
    def usual_step(cls) -> Iterator[None]:
        """Runs a usual step on the stream of captures, so that libraries set up there what a capture must not."""
        side, current = cls._side_stream(), torch.cuda.current_stream()
        side.wait_stream(current)
        try:
            with torch.cuda.stream(side):
                yield
        finally:
            current.wait_stream(side)

    @staticmethod
    def is_possible_on(device: torch.device) -> bool:
        return device.type == 'cuda'
