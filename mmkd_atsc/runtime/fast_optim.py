"""The optimizer's side of a fast step: bf16, fused kernels, and gradients averaged over the processes."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from mmkd_atsc.registry import OPTIM_WRAPPERS

from .blocks import first_line

FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


@OPTIM_WRAPPERS.register_module()
class FastOptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper`` with what a GPU does faster; on a CPU it is MMEngine's.

    - Forward and losses run under autocast in bf16, which has fp32's range and so needs no loss scaling. Weights,
      gradients and the optimizer stay in fp32, and checkpoints are those of an ``OptimWrapper``.
    - SGD, Adam and AdamW step by one kernel for all parameters.
    - ``average_gradients``, which :class:`FlatDataParallel` sets, is called before gradients are clipped and used.

    Args:
        bf16: Use autocast where the GPU has bf16.
        kwargs: As in ``OptimWrapper``.

    >>> layer = nn.Linear(2, 1)
    >>> FastOptimWrapper(optimizer=torch.optim.SGD(layer.parameters(), lr=0.1)).autocasts  # on a CPU
    False
    """

    def __init__(self, *args: Any, bf16: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.average_gradients: Callable[[], None] | None = None
        self.autocasts = False
        if self._parameters()[0].device.type != 'cuda':
            return
        self.autocasts = bf16 and torch.cuda.is_bf16_supported(including_emulation=False)
        if bf16 and not self.autocasts:
            print_log(f'{torch.cuda.get_device_name()} has no bf16: the step is in fp32', 'current', 30)
        if isinstance(self.optimizer, FUSED):
            self._fuse(True)
            self._begin_momenta()
        else:
            print_log(f'{type(self.optimizer).__name__} has no fused kernels', 'current', 30)

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        if self.optimizer.param_groups[0].get('fused'):
            self._begin_momenta()

    def _begin_momenta(self) -> None:
        """Gives each parameter that has no momentum yet one of zero, which is how SGD begins.

        The fused kernel takes parameters of which all have one or none: a teacher that adapts later has none.
        """
        for group in self.optimizer.param_groups:
            if group.get('momentum') and not group['dampening']:
                for parameter in group['params']:
                    state = self.optimizer.state[parameter]
                    if state.get('momentum_buffer') is None:
                        state['momentum_buffer'] = torch.zeros_like(parameter)

    def _fuse(self, fused: bool) -> None:
        for group in self.optimizer.param_groups:
            group.update(fused=fused, foreach=not fused)

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group['params']]

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast('cuda', torch.bfloat16, enabled=self.autocasts):
            yield

    def step(self, **kwargs: Any) -> None:
        if self.average_gradients is not None:
            self.average_gradients()
        try:
            super().step(**kwargs)
        except RuntimeError as error:  # parameters that the fused kernels do not take; they look before they step
            if not self.optimizer.param_groups[0].get('fused'):
                raise
            self._fuse(False)
            print_log(f'{type(self.optimizer).__name__} is not fused: {first_line(error)}', 'current', 30)
            super().step(**kwargs)
