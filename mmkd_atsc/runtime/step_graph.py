"""A training step as one CUDA graph: Python launches it once instead of its hundreds of small kernels."""
import random
import time
from collections.abc import Callable
from types import MethodType
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmkd_atsc.errors.checks import check_flag, check_number
from mmkd_atsc.registry import HOOKS

from .blocks import first_line
from .model_wrappers import unwrap_model
from .python_state import PythonState
from .random_state import numpy_state

Logs = dict[str, Any]
FEW_REPLAYS, MOST_VAIN = 20, 5


@HOOKS.register_module()
class StepGraphHook(Hook):
    """Runs forward, losses and backward of a training step as one CUDA graph.

    With small images a network is hundreds of kernels of a few microseconds, and a GPU waits for Python most of the
    time. A graph has no Python in it. The data preprocessor (augmentation, mixup) runs before it and the optimizer
    after it, so that schedules change the learning rate freely.

    The first ``warmup`` steps run as usual. Then the step is captured, and captured anew, after as many usual steps,
    when something changes that the graph holds: an attribute of any module of the model (a loss's weight that warms up,
    a teacher's ``adapting``), its parts and hooks, which parameters learn, or where tensors lie. Single batches of
    another kind run as usual. What cannot be captured at all runs as usual too, with one line that says why.

    What is not noticed is Python in a model's forward that reads something outside the model and acts on it: a clock, a
    file, the iteration that MMEngine's message hub knows (MMRazor's pruning algorithms do). Such a model needs
    ``default_hooks=dict(step_graph=None)``.

    Args:
        warmup: Usual steps before each capture.
        stand_in: For tests on any device: in place of a graph the captured function is called again.

    >>> StepGraphHook(warmup=0)
    Traceback (most recent call last):
    ValueError: warmup=0 must be an integer at least 2
    """

    priority = 'VERY_LOW'

    def __init__(self, warmup: int = 3, stand_in: bool = False) -> None:
        self.warmup = check_number('warmup', warmup, 2, integer=True)
        self.stand_in = check_flag('stand_in', stand_in)
        self.step: GraphedStep | None = None

    def before_train(self, runner: Runner) -> None:
        model, optim_wrapper = unwrap_model(runner), runner.optim_wrapper
        prevented = (getattr(hook, 'prevents_step_graph', None) for hook in runner.hooks)
        why = next(filter(None, prevented), None) or self._why_not(runner.model, model, optim_wrapper)
        if why:
            runner.logger.warning(f'the training step is not captured: {why}')
            return
        self.step = GraphedStep(model, self.warmup, StandIn if self.stand_in else Graph)
        model.train_step = self.step

    def after_train(self, runner: Runner) -> None:
        if self.step is not None:
            del unwrap_model(runner).train_step  # the class has it again
            self.step = None

    def _why_not(self, wrapped: nn.Module, model: nn.Module, optim_wrapper: Any) -> str | None:
        """Why the step of a whole training cannot be captured, None where it can."""
        if not self.stand_in and next(model.parameters()).device.type != 'cuda':
            return 'there is no GPU, and so no bf16, no compiled blocks and no graph either'
        if isinstance(wrapped, DistributedDataParallel):
            return ('DistributedDataParallel averages gradients while backward runs; '
                    "model_wrapper_cfg=dict(type='mmkd_atsc.FlatDataParallel') does so after it")
        if type(model).train_step is not BaseModel.train_step and not getattr(model, 'has_usual_step', False):
            return f'{type(model).__name__} has a train_step of its own'
        if not isinstance(optim_wrapper, OptimWrapper):
            return 'there are several optimizers'
        if optim_wrapper._accumulative_counts > 1:
            return 'gradients are accumulated over several steps'
        if isinstance(optim_wrapper, AmpOptimWrapper) and optim_wrapper.loss_scaler.is_enabled():
            return 'the loss is scaled; bf16 needs no scaling (loss_scale=dict(enabled=False))'
        if get_world_size() > 1 and any(isinstance(part, nn.SyncBatchNorm) for part in model.modules()):
            return 'SyncBatchNorm talks to the other processes in its forward'
        return None


class GraphedStep:
    """In place of a model's ``train_step``: usual steps, then a captured one, as :class:`StepGraphHook` says."""

    def __init__(self, model: BaseModel, warmup: int, recorder: type['Graph'] | type['StandIn']) -> None:
        self.model, self.warmup, self.recorder = model, warmup, recorder
        self.captured: CapturedStep | None = None
        self.failed = False
        self._kind: tuple | None = None  # of the batches that are captured
        self._other_kinds = 0  # batches of another kind in a row
        self._usual_steps = 0  # since something changed
        self._replays = 0  # since then
        self._vain = 0  # captures, or attempts, that few replays followed
        self._state: PythonState | None = None
        self._said: set[str] = set()

    def __deepcopy__(self, memo: dict) -> MethodType:
        model = memo[id(self.model)]  # a copy of the model has the step of its class
        return MethodType(type(model).train_step, model)

    def __call__(self, data: Any, optim_wrapper: OptimWrapper) -> Logs:
        data = self.model.data_preprocessor(data, True)
        if self.failed:
            return self._usual_step(data, optim_wrapper)
        changed = self._state.changed() if self._state is not None else None
        if changed:
            self._forget(changed)
        tensors, why = tensors_of(data)
        why = why or self._why_not(kind_of(tensors))
        if why:
            self._say(f'a step is not captured: {why}')
        is_due = not why and self._usual_steps >= self.warmup
        captured = (self.captured or self._capture(tensors, optim_wrapper)) if is_due else None
        if captured is None:
            return self._usual_step(data, optim_wrapper)
        logs = captured.run(tensors)
        self._replays += 1
        optim_wrapper._inner_count += 1
        optim_wrapper.step()
        captured.detach_gradients()
        return logs

    def _why_not(self, kind: tuple) -> str | None:
        """Why no step for a batch of a kind is captured; None where one is."""
        self._other_kinds = 0 if self._kind in (None, kind) else self._other_kinds + 1
        # Too many to be the last, smaller batch of an epoch: from now on all are so.
        if self._kind is not None and self._other_kinds > self.warmup:
            self._forget(f'batches are {words(kind)}, they were {words(self._kind)}')
            self._kind, self._other_kinds = None, 0
        self._kind = self._kind or kind
        if kind != self._kind:
            return f'its batch is {words(kind)}, those that are captured are {words(self._kind)}'
        return None

    def _usual_step(self, data: Any, optim_wrapper: OptimWrapper) -> Logs:
        """MMEngine's ``train_step`` after its preprocessing."""
        is_watched = self._state is not None and self.captured is None and not self.failed
        python, numpy = (random.getstate(), numpy_state()[1:3]) if is_watched else (None, ())
        with self.recorder.stream():
            with optim_wrapper.optim_context(self.model):
                losses = self.model._run_forward(data, mode='loss')
            total, logs = self.model.parse_losses(losses)
            optim_wrapper.update_params(total)
        if self.failed:
            return logs
        self._usual_steps += 1
        if self._state is None:  # after a step, since the first may set attributes for good
            self._state = PythonState(self.model)
        elif is_watched:
            same = python == random.getstate() and all(map(np.array_equal, numpy, numpy_state()[1:3]))
            changed = self._state.changed_by_forward() if same else "Python's or NumPy's random numbers"
            if changed:
                self._fail(f'it changes what a graph would hold: {changed}')
        return logs

    def _forget(self, changed: str) -> None:
        """Begins anew: usual steps, then another capture. What changes every few steps is not worth one."""
        self._vain = self._vain + 1 if self._replays < FEW_REPLAYS else 0
        if self._vain >= MOST_VAIN:
            self._fail(f'something changes every few steps: {changed}')
        elif self.captured is not None:
            print_log(f'the step is captured anew: {changed}', 'current')
        self.captured, self._usual_steps, self._replays, self._state = None, 0, 0, None

    def _capture(self, tensors: dict[str, Tensor], optim_wrapper: OptimWrapper) -> 'CapturedStep | None':
        begin = time.perf_counter()
        optim_wrapper.zero_grad()
        try:
            self.captured = CapturedStep(self.model, optim_wrapper, tensors, self.recorder)
        except Exception as error:  # whatever forward or backward do that no graph holds
            optim_wrapper.zero_grad()
            self._fail(first_line(error))
            return None
        if self._state is not None:
            self._state.changed_by_forward()  # what the captured forward left behind lies in the graph's memory
        print_log(f'the step is captured ({time.perf_counter() - begin:.2f} s)', 'current')
        return self.captured

    def _fail(self, why: str) -> None:
        self.failed, self.captured = True, None
        self._say(f'the training step is not captured: {why}')

    def _say(self, line: str) -> None:
        if line not in self._said:
            print_log(line, 'current', 30)
            self._said.add(line)


class CapturedStep:
    """A captured forward, losses and backward, and the memory that they read and write.

    The gradients lie in the graph's memory. Between two steps no parameter shows them: a usual step would add to them,
    and a checkpoint would hold them.
    """

    def __init__(self, model: BaseModel, optim_wrapper: OptimWrapper, tensors: dict[str, Tensor],
                 recorder: type['Graph'] | type['StandIn']) -> None:
        self._tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        inputs = self._tensors['inputs']
        samples = [DataSample() for _ in inputs]
        for field in self._tensors.keys() - {'inputs'}:
            values = self._tensors[field]
            for sample, value in zip(samples, values.split(1) if field == 'gt_label' else values):
                sample.set_field(value, field)
        self._gradients: list[tuple[nn.Parameter, Tensor]] = []
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

        def forward_and_backward() -> Logs:
            with optim_wrapper.optim_context(model):
                losses = model._run_forward(dict(inputs=inputs, data_samples=samples), mode='loss')
            total, logs = model.parse_losses(losses)
            total.backward()
            return {name: value.detach() if isinstance(value, Tensor) else value for name, value in logs.items()}

        self._recorded = recorder(forward_and_backward, self._parameters)

    def run(self, tensors: dict[str, Tensor]) -> Logs:
        """Forward, losses and backward for a batch; gradients are where an optimizer looks for them."""
        for name, tensor in tensors.items():
            self._tensors[name].copy_(tensor)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        self._recorded.replay()
        if not self._gradients:
            self._gradients = [(parameter, parameter.grad) for parameter in self._parameters
                               if parameter.grad is not None]
        return copied(self._recorded.logs)

    def detach_gradients(self) -> None:
        for parameter, _ in self._gradients:
            parameter.grad = None


def tensors_of(data: Any) -> tuple[dict[str, Tensor], str | None]:
    """The images and the labels of a batch by name; and why no step for it can be captured, None where one can."""
    samples = data.get('data_samples') if isinstance(data, dict) else None
    if not isinstance(samples, (list, tuple)) or set(data) != {'inputs', 'data_samples'}:
        return {}, 'a batch is not images with their data samples'
    if not isinstance(data['inputs'], Tensor):
        return {}, f'the images are a {type(data["inputs"]).__name__}, not one tensor'
    labels = labels_of(samples)
    if not labels or any(value.device != data['inputs'].device for value in labels.values()):
        return {}, 'its samples have more or less than one label or score each, on the device of the images'
    return dict(inputs=data['inputs'], **labels), None


def labels_of(samples: Any) -> dict[str, Tensor]:
    """The labels (N,) and scores (N, C) of data samples, one tensor each; {} where they have others, or not all alike.

    >>> labels_of([DataSample().set_gt_label(3), DataSample().set_gt_label(5)])
    {'gt_label': tensor([3, 5])}
    >>> labels_of([DataSample().set_gt_label([0, 1]), DataSample().set_gt_label(5)])
    {}
    """
    if isinstance(getattr(samples, 'labels', None), Tensor):  # our preprocessor's, which makes no sample unasked
        return dict(gt_label=samples.labels)
    fields = set(samples[0].keys()) - {'num_classes'} if len(samples) else set()
    if not fields or not fields <= {'gt_label', 'gt_score'} or any(
            set(sample.keys()) - {'num_classes'} != fields for sample in samples):
        return {}
    values = {field: [getattr(sample, field) for sample in samples] for field in sorted(fields)}
    if any(label.numel() != 1 for label in values.get('gt_label', ())) or any(
            score.shape != values['gt_score'][0].shape for score in values.get('gt_score', ())):
        return {}
    return {field: torch.cat(parts) if field == 'gt_label' else torch.stack(parts) for field, parts in values.items()}


def kind_of(tensors: dict[str, Tensor]) -> tuple:
    """What batches must have in common to take the same captured step: sizes and types of images and labels."""
    return tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items())


def words(kind: tuple) -> str:
    """A kind of batch, for a message.

    >>> words((('inputs', (6, 3, 32, 32), torch.float32), ('gt_label', (6, ), torch.int64)))
    '(6, 3, 32, 32) with gt_label'
    """
    return f'{kind[0][1]} with {" and ".join(name for name, *_ in kind[1:])}'


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
    def stream(cls) -> 'OnStream':
        """The stream on which usual steps run, so that libraries have set up there what a capture must not."""
        return OnStream(cls._side_stream())


class OnStream:
    """Runs a block on another CUDA stream, after what was launched before it and before what comes after it."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._context, self._side = torch.cuda.stream(stream), stream

    def __enter__(self) -> None:
        self._side.wait_stream(torch.cuda.current_stream())
        self._context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)
        torch.cuda.current_stream().wait_stream(self._side)


class StandIn:
    """What :class:`Graph` is, on any device, by calling the function again."""

    def __init__(self, function: Callable[[], Logs], parameters: list[nn.Parameter]) -> None:
        self._function, self._parameters = function, parameters
        self.logs: Logs = {}

    def replay(self) -> None:
        memory = [parameter.grad for parameter in self._parameters]
        for parameter in self._parameters:
            parameter.grad = None
        for name, value in self._function().items():
            if isinstance(self.logs.get(name), Tensor):
                self.logs[name].copy_(value)
            else:
                self.logs[name] = value
        for parameter, own in zip(self._parameters, memory):
            if own is not None:
                parameter.grad = own.copy_(parameter.grad)

    @staticmethod
    def stream() -> torch.autograd.profiler.record_function:
        return torch.autograd.profiler.record_function('usual step')
