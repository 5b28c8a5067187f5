"""A training step captured as a CUDA graph, with the memory that the graph reads and writes."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from .batch_kind import samples_with

Logs = dict[str, Any]


class CapturedStep:
    """A captured forward, losses and backward.

    The gradients lie in the graph's memory. Between two steps no parameter has them: a usual step would add to them,
    and a checkpoint would hold them.

    Args:
        tensors: A batch of the kind that will be given to :meth:`run`.
        graph: :class:`Graph`, or what tests have in its place.
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
