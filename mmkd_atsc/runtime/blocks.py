"""Compiles the blocks that a network repeats, each for itself, so that equal blocks share one compilation."""
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from mmkd_atsc.errors.messages import first_line

MOST_FORMS = 64  # of one block's code, which networks of several widths share; PyTorch's limit is 8
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def repeated_blocks(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The name and module of each block of which a network is a stack.

    A block is a module with at least two weight matrices whose class occurs at least twice, and not itself a stack of
    such blocks: of a ResNet's stages and residual blocks it is the residual blocks.
    """
    kinds = Counter(type(module) for module in network.modules() if not isinstance(module, CONTAINERS)
                    and sum(parameter.dim() > 1 for parameter in module.parameters()) > 1)
    repeated = {kind for kind, count in kinds.items() if count > 1}

    def is_stack(module: nn.Module) -> bool:
        return any(count > 1 and kind in repeated for part in module.modules() if isinstance(part, CONTAINERS)
                   for kind, count in Counter(map(type, part.children())).items())

    def walk(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
        for name, child in module.named_children():
            if type(child) in repeated and not is_stack(child):
                yield f'{path}{name}', child
            else:
                yield from walk(child, f'{path}{name}.')

    return walk(network, '')


class BlockCompiler:
    """Compiles modules for the batches of training, with the options of ``torch.compile``; all else runs as it is.

    It compiles for one batch size, the first or one that has replaced it for several steps: a smaller batch at an
    epoch's end is not worth seconds. A class that the compiler cannot handle runs as it is, with one warning.
    """

    def __init__(self, **options: Any) -> None:
        self.options = dict(dynamic=False, **options)
        self.active = False  # whether a training step runs now
        self.batch_size: int | None = None
        self._modules = 0
        self._other_calls = 0  # with another batch size, in a row
        self._failed: set[type] = set()

    def compile(self, module: nn.Module) -> None:
        """Replaces a module's call by its compiled form; the module, its weights and its code stay as they are."""
        from torch._dynamo import config  # not at import: it takes a second
        config.cache_size_limit = max(config.cache_size_limit, MOST_FORMS)
        self._modules += 1
        kind, compiled = type(module), torch.compile(module.forward, **self.options)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.active or kind in self._failed or not self._is_whole_batch(args):
                return module._call_impl(*args, **kwargs)
            try:
                return compiled(*args, **kwargs)
            except Exception as error:  # of the compiler; the plain module raises again what is its own
                result = module._call_impl(*args, **kwargs)
                self._failed.add(kind)
                print_log(f'{kind.__name__} is not compiled: {first_line(error)}', 'current', 30)
                return result

        module._compiled_call_impl = call

    def _is_whole_batch(self, args: tuple) -> bool:
        size = args[0].shape[0] if args and isinstance(args[0], torch.Tensor) and args[0].dim() else None
        self._other_calls = 0 if size == self.batch_size else self._other_calls + 1
        if self.batch_size is None or self._other_calls > 3 * self._modules:
            self.batch_size = size
        return size == self.batch_size
