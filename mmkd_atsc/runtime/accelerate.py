"""The networks in the memory format and the compiled form that run fastest."""
from typing import Any, Iterator, Tuple, Union

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch import nn

from mmkd_atsc.errors.checks import check_choice
from mmkd_atsc.registry import HOOKS

from .unwrap import rewrap, unwrap

MOST_FORMS = 64


@HOOKS.register_module()
class AccelerateHook(Hook):
    """Lays the networks out for the convolutions' fast kernels, and compiles them if asked.

    Both leave the maths as it is: results differ by rounding. What carries the time is compiled, the backbones of
    student and teachers and the distiller's losses; a part that cannot be is run as it is, with one warning.

    Args:
        channels_last: Weights and features with the channels innermost. 'auto': on the CPU, and on GPUs under automatic
            mixed precision, where the kernels want it.
        compile: True, or the options of ``torch.compile``, such as ``dict(mode='reduce-overhead')`` for CUDA graphs;
            those are for the backbones alone, since what a graph returns is overwritten by the next step, and losses
            are logged after several.

    >>> AccelerateHook(channels_last=True).channels_last
    True
    """

    # Before the first step and the first validation, and before hooks that copy the model (EMAHook).
    priority = 'HIGHEST'

    def __init__(self, channels_last: Union[bool, str] = 'auto', compile: Union[bool, dict] = False) -> None:
        self.channels_last = check_choice('channels_last', channels_last, (True, False, 'auto'))
        if not isinstance(compile, (bool, dict)):
            raise TypeError(f'compile={compile!r} must be True, False or a dict with options of torch.compile')
        self.options = dict(compile) if isinstance(compile, dict) else {}
        self.compile = compile is True or isinstance(compile, dict)

    def before_run(self, runner: Runner) -> None:
        model = unwrap(runner)
        if self._wants_channels_last(runner, model):
            model.to(memory_format=torch.channels_last)
            if is_model_wrapper(runner.model):  # its gradient buckets have the old layout
                training = model.training
                rewrap(runner)
                runner.model.train(training)
        if self.compile:
            for name, network in backbones_of(model):
                compile_guarded(network, name, **self.options)
            for name, loss in getattr(getattr(model, 'distiller', None), 'distill_losses', {}).items():
                compile_guarded(loss, name, **without_cuda_graphs(self.options))

    def _wants_channels_last(self, runner: Runner, model: nn.Module) -> bool:
        if self.channels_last != 'auto':
            return self.channels_last
        on_cpu = next(model.parameters()).device.type == 'cpu'
        return on_cpu or isinstance(getattr(runner, 'optim_wrapper', None), AmpOptimWrapper)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if self.compile:  # with CUDA graphs, what the last step left may be overwritten now
            torch.compiler.cudagraph_mark_step_begin()


def backbones_of(model: nn.Module) -> Iterator[Tuple[str, nn.Module]]:
    """The backbones of a student and its teachers, or of a plain classifier.

    >>> [name for name, _ in backbones_of(nn.ModuleDict(dict(backbone=nn.Identity())))]
    ['backbone']
    """
    networks = {'student': getattr(model, 'student', model)}
    networks.update((name, teacher.model) for name, teacher in getattr(model, 'teachers', {}).items())
    for name, network in networks.items():
        network = getattr(network, 'backbone', None) or getattr(network, '_modules', {}).get('backbone')
        if network is not None:
            yield ('backbone' if len(networks) == 1 else f'backbone of {name}'), network


def without_cuda_graphs(options: dict) -> dict:
    """The options of ``torch.compile`` for a part whose results are kept over several steps.

    >>> without_cuda_graphs(dict(mode='reduce-overhead', dynamic=False))
    {'mode': 'default', 'dynamic': False}
    """
    plain = {'reduce-overhead': 'default', 'max-autotune': 'max-autotune-no-cudagraphs'}
    options = {key: plain.get(value, value) if key == 'mode' else value for key, value in options.items()}
    if 'options' in options:
        options['options'] = dict(options['options'], **{'triton.cudagraphs': False})
    return options


def compile_guarded(network: nn.Module, name: str, **options: Any) -> None:
    """``network.compile(**options)`` that falls back to the plain network, with one warning, if it cannot be."""
    from torch._dynamo import config as dynamo_config  # not at import: it takes a second
    # All networks share the code of `forward`, and after eight forms of a code PyTorch compiles no more.
    limit = 'recompile_limit' if hasattr(dynamo_config, 'recompile_limit') else 'cache_size_limit'  # before torch 2.7
    setattr(dynamo_config, limit, max(getattr(dynamo_config, limit), MOST_FORMS))

    def forward(*args: Any, **kwargs: Any) -> Any:
        """A frame that is not PyTorch's own: torch 2.11 would leave an nn.Sequential's as it is, without a word."""
        return network._call_impl(*args, **kwargs)

    compiled = torch.compile(forward, **options)
    proven = set()  # each of these is compiled for itself: training, scoring, under autocast

    def call(*args: Any, **kwargs: Any) -> Any:
        form = network.training, torch.is_grad_enabled(), torch.is_autocast_enabled()
        if form in proven:
            return compiled(*args, **kwargs)
        try:
            result = compiled(*args, **kwargs)
        except Exception as error:  # whatever the compiler stumbles over: the plain network decides if it is ours
            result = network._call_impl(*args, **kwargs)
            print_log(f'the {name} ({type(network).__name__}) is not compiled: {_first_line(error)}', 'current', 30)
            network._compiled_call_impl = None
        proven.add(form)
        return result

    network._compiled_call_impl = call


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
