"""Puts the networks into the memory format and the compiled form that run fastest."""
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

from .blocks import BlockCompiler, repeated_blocks
from .model_wrappers import rewrap_model, unwrap_model


@HOOKS.register_module()
class AccelerateHook(Hook):
    """Puts the networks into the channels-last layout, and compiles them if asked. Results differ by rounding.

    Args:
        channels_last: Weights and features with the channels innermost. 'auto': on the CPU, and on GPUs under automatic
            mixed precision, where it is faster.
        compile: 'blocks' compiles, on a GPU, each block that a backbone repeats: seconds instead of minutes, because
            equal blocks share their code. A block that cannot be compiled runs as it is, with one warning.
    """

    # Before the first step and the first validation, and before hooks that copy the model (EMAHook).
    priority = 'HIGHEST'

    def __init__(self, channels_last: bool | str = 'auto', compile: bool | str = False) -> None:
        self.channels_last = check_choice('channels_last', channels_last, (True, False, 'auto'))
        self.compile = check_choice('compile', compile, (False, 'blocks'))
        self.blocks = BlockCompiler()

    def before_run(self, runner: Runner) -> None:
        model = unwrap_model(runner)
        if self._wants_channels_last(runner, model):
            model.to(memory_format=torch.channels_last)
            if isinstance(runner.model, DistributedDataParallel):  # its gradient buckets have the old layout
                training = model.training
                rewrap_model(runner)
                runner.model.train(training)
        if self.compile and next(model.parameters()).device.type == 'cuda':
            for name, network in model.named_modules():
                if name.rpartition('.')[2] == 'backbone':
                    self._compile_blocks(name, network)

    def _compile_blocks(self, name: str, network: nn.Module) -> None:
        blocks = [block for _, block in repeated_blocks(network)] or [network]
        # Compiled code would not call forward hooks, as of a recorder.
        compiled = [block for block in blocks if not any(
            part._forward_hooks or part._forward_pre_hooks for part in block.modules())]
        for block in compiled:
            self.blocks.compile(block)
        kinds = ', '.join(sorted({type(block).__name__ for block in blocks}))
        print_log(f'{name}: {len(compiled)} of {len(blocks)} x {kinds} compiled', 'current')

    def _wants_channels_last(self, runner: Runner, model: nn.Module) -> bool:
        if self.channels_last != 'auto':
            return self.channels_last
        on_cpu = next(model.parameters()).device.type == 'cpu'
        wrapper = getattr(runner, 'optim_wrapper', None)
        return on_cpu or isinstance(wrapper, AmpOptimWrapper) or getattr(wrapper, 'autocasts', False)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        self.blocks.active = True

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        self.blocks.active = False
