"""A training step as one CUDA graph: Python launches it once instead of its hundreds of small kernels."""
import pickle
import random
import time
from types import MethodType
from typing import Any

import numpy as np
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.errors.messages import first_line
from mmkd_atsc.registry import HOOKS

from .captured_step import CapturedStep, Graph, Logs, kind_of, tensors_of, words
from .model_wrappers import unwrap_model
from .python_state import PythonState

# The step is no longer captured after MOST_VAIN captures in a row that each served fewer than FEW_REPLAYS steps.
FEW_REPLAYS, MOST_VAIN = 20, 5


@HOOKS.register_module()
class StepGraphHook(Hook):
    """Runs forward, losses and backward of a training step as one CUDA graph, which needs no Python.

    The data preprocessor (augmentation, mixup) runs before it and the optimizer after it, so schedules change the
    learning rate freely. After ``warmup`` usual steps the step is captured; and anew when something changes that the
    graph holds: an attribute of any module of the model (a loss's weight that warms up, a teacher's ``adapting``), its
    parts and hooks, which parameters learn, or where tensors lie. Single batches of another kind run as usual. What
    cannot be captured runs as usual too, and one line says why.

    It does not notice Python in a model's forward that reads something outside the model and acts on it: a clock, a
    file, the iteration in MMEngine's message hub (MMRazor's pruning algorithms do). Such a model needs
    ``default_hooks=dict(step_graph=None)``.

    Args:
        warmup: Usual steps before each capture.
    """

    priority = 'VERY_LOW'
    graph = Graph

    def __init__(self, warmup: int = 3) -> None:
        self.warmup = check_number('warmup', warmup, 2, integer=True)

    def before_train(self, runner: Runner) -> None:
        model = unwrap_model(runner)
        prevented = (getattr(hook, 'prevents_step_graph', None) for hook in runner.hooks)
        why = next(filter(None, prevented), None) or self._why_not(runner.model, model, runner.optim_wrapper)
        if why:
            runner.logger.warning(f'the training step is not captured: {why}')
        else:
            model.train_step = GraphedStep(model, self.warmup, self.graph)

    def after_train(self, runner: Runner) -> None:
        vars(unwrap_model(runner)).pop('train_step', None)  # its class has one

    def _why_not(self, wrapped: nn.Module, model: nn.Module, optim_wrapper: Any) -> str | None:
        """Why the step of a whole training cannot be captured, None where it can."""
        if not self.graph.is_possible_on(next(model.parameters()).device):
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
    """Replaces a model's ``train_step``: usual steps, then a captured one, as :class:`StepGraphHook` says."""

    def __init__(self, model: BaseModel, warmup: int, graph: type[Graph]) -> None:
        self.model, self.warmup, self.graph = model, warmup, graph
        self.captured: CapturedStep | None = None
        self.failed = False
        self._kind: tuple | None = None  # of the batches that are captured
        self._other_kinds = 0  # batches of another kind in a row
        self._usual_steps = 0  # since something changed
        self._replays = 0  # since something changed
        self._vain = 0  # captures, or attempts, that few replays followed
        self._state: PythonState | None = None
        self._said: set[str] = set()

    def __deepcopy__(self, memo: dict) -> MethodType:
        model = memo[id(self.model)]  # a copy of the model has the step of its class
        return MethodType(type(model).train_step, model)

    def __call__(self, data: Any, optim_wrapper: OptimWrapper) -> Logs:
        data = self.model.data_preprocessor(data, True)
        tensors = None if self.failed else self._tensors_to_capture(data)
        if tensors is None or self.captured is None and not self._capture(tensors, optim_wrapper):
            return self._usual_step(data, optim_wrapper)
        assert self.captured is not None
        logs = self.captured.run(tensors)
        self._replays += 1
        optim_wrapper._inner_count += 1
        optim_wrapper.step()
        self.captured.detach_gradients()
        return logs

    def _tensors_to_capture(self, data: Any) -> dict[str, Tensor] | None:
        """A batch's tensors where its step runs captured, None where it runs as usual."""
        changed = self._state.changed() if self._state is not None else None
        if changed:
            self._forget(changed)
        tensors, why = tensors_of(data)
        why = why or self._why_usual(kind_of(tensors))
        if why:
            self._say(f'a step is not captured: {why}')
        return None if why or self._usual_steps < self.warmup else tensors

    def _why_usual(self, kind: tuple) -> str | None:
        """Why no step for a batch of a kind is captured; None where one is."""
        self._kind = self._kind or kind
        self._other_kinds = 0 if kind == self._kind else self._other_kinds + 1
        if self._other_kinds > self.warmup:  # too many to be the last, smaller batch of an epoch
            self._forget(f'batches are {words(kind)}, they were {words(self._kind)}')
            self._kind, self._other_kinds = kind, 0
        if kind != self._kind:
            return f'its batch is {words(kind)}, those that are captured are {words(self._kind)}'
        return None

    def _usual_step(self, data: Any, optim_wrapper: OptimWrapper) -> Logs:
        """MMEngine's ``train_step`` after its preprocessing."""
        is_watched = self._state is not None and self.captured is None and not self.failed
        random_before = host_random_state() if is_watched else b''
        with self.graph.usual_step():
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
            changed = ("Python's or NumPy's random numbers" if host_random_state() != random_before else
                       self._state.changed_by_forward())
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

    def _capture(self, tensors: dict[str, Tensor], optim_wrapper: OptimWrapper) -> bool:
        """Captures the step; False where that fails."""
        begin = time.perf_counter()
        optim_wrapper.zero_grad()
        try:
            self.captured = CapturedStep(self.model, optim_wrapper, tensors, self.graph)
        except Exception as error:  # whatever forward or backward do that no graph holds
            optim_wrapper.zero_grad()
            self._fail(first_line(error))
            return False
        if self._state is not None:
            self._state.changed_by_forward()  # what the captured forward left behind lies in the graph's memory
        print_log(f'the step is captured ({time.perf_counter() - begin:.2f} s)', 'current')
        return True

    def _fail(self, why: str) -> None:
        self.failed, self.captured = True, None
        self._say(f'the training step is not captured: {why}')

    def _say(self, line: str) -> None:
        if line not in self._said:
            print_log(line, 'current', 30)
            self._said.add(line)


def host_random_state() -> bytes:
    return pickle.dumps((random.getstate(), np.random.get_state()))
