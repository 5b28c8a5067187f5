"""The networks in the memory format and the compiled form that run fastest."""
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import AmpOptimWrapper
from mmengine.runner import Runner
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmkd_atsc.errors.checks import check_choice
from mmkd_atsc.registry import HOOKS

from .blocks import BlockCompiler, first_line, has_hooks, raise_limit_on_forms, repeated_blocks
from .model_wrappers import rewrap_model, unwrap_model


@HOOKS.register_module()
class AccelerateHook(Hook):
    """Lays the networks out for the convolutions' fast kernels, and compiles them if asked.

    Both leave the maths as it is: results differ by rounding. A part that cannot be compiled is run as it is, with one
    warning.

    Args:
        channels_last: Weights and features with the channels innermost. 'auto': on the CPU, and on GPUs under automatic
            mixed precision, where the kernels want it.
        compile: 'blocks' compiles, on a GPU, the blocks that a backbone repeats, each for itself: seconds instead of
            minutes, because equal blocks share their code. True, or the options of ``torch.compile``, compiles whole
            backbones and the distiller's losses; ``dict(mode='reduce-overhead')`` brings CUDA graphs, for the backbones
            alone, since what a graph returns is overwritten by the next step, and losses are logged after several.

    >>> AccelerateHook(channels_last=True).channels_last
    True
    """

    # Before the first step and the first validation, and before hooks that copy the model (EMAHook).
    priority = 'HIGHEST'

    def __init__(self, channels_last: bool | str = 'auto', compile: bool | str | dict = False) -> None:
        self.channels_last = check_choice('channels_last', channels_last, (True, False, 'auto'))
        if not isinstance(compile, (bool, dict)) and compile != 'blocks':
            raise TypeError(f"compile={compile!r} must be True, False, 'blocks' or a dict with torch.compile's options")
        self.compile = compile
        self.blocks: BlockCompiler | None = None

    def before_run(self, runner: Runner) -> None:
        model = unwrap_model(runner)
        if self._wants_channels_last(runner, model):
            model.to(memory_format=torch.channels_last)
            if isinstance(runner.model, DistributedDataParallel):  # its gradient buckets have the old layout
                training = model.training
                rewrap_model(runner)
                runner.model.train(training)
        if self.compile == 'blocks':
            self._compile_blocks(model)
        elif self.compile is not False:
            options = self.compile if isinstance(self.compile, dict) else {}
            for name, network in backbones_of(model):
                compile_guarded(network, name, **options)
            for name, loss in getattr(getattr(model, 'distiller', None), 'distill_losses', {}).items():
                compile_guarded(loss, name, **without_cuda_graphs(options))

    def _compile_blocks(self, model: nn.Module) -> None:
        if next(model.parameters()).device.type != 'cuda':
            return
        from torch.utils._triton import has_triton  # not at import: it takes a second
        if not has_triton():
            print_log("compile='blocks' needs Triton, which is not here: nothing is compiled", 'current', 30)
            return
        self.blocks = BlockCompiler()
        for name, network in backbones_of(model):
            blocks = [block for _, block in repeated_blocks(network)] or [network]
            heard = [block for block in blocks if has_hooks(block)]
            for block in blocks:
                if block not in heard:
                    self.blocks.compile(block)
            kinds = ', '.join(sorted({type(block).__name__ for block in blocks}))
            listened = f', {len(heard)} of them not: recorders listen to them' if heard else ''
            print_log(f'{name}: {len(blocks)} x {kinds} compiled{listened}', 'current')

    def _wants_channels_last(self, runner: Runner, model: nn.Module) -> bool:
        if self.channels_last != 'auto':
            return self.channels_last
        on_cpu = next(model.parameters()).device.type == 'cpu'
        wrapper = getattr(runner, 'optim_wrapper', None)
        return on_cpu or isinstance(wrapper, AmpOptimWrapper) or getattr(wrapper, 'autocasts', False)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if self.blocks is not None:
            self.blocks.active = True
        elif self.compile is not False:  # with CUDA graphs, what the last step left may be overwritten now
            torch.compiler.cudagraph_mark_step_begin()

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        if self.blocks is not None:
            self.blocks.active = False


def backbones_of(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
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
    raise_limit_on_forms()  # all networks share the code of `forward`

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
            print_log(f'the {name} ({type(network).__name__}) is not compiled: {first_line(error)}', 'current', 30)
            network._compiled_call_impl = None
        proven.add(form)
        return result

    network._compiled_call_impl = call
