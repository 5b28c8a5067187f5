"""An optimizer wrapper for fast steps: bf16, fused kernels, gradients averaged over the processes."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from torch import nn

from mmkd_atsc.registry import OPTIM_WRAPPERS

FUSED = (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)


@OPTIM_WRAPPERS.register_module()
class FastOptimWrapper(OptimWrapper):
    """MMEngine's ``OptimWrapper`` with bf16 and fused kernels on a GPU; on a CPU it is MMEngine's.

    Forward and losses run under autocast in bf16, which has fp32's range and so needs no loss scaling. Weights,
    gradients and the optimizer stay in fp32, checkpoints are those of an ``OptimWrapper``. SGD, Adam and AdamW step by
    one kernel for all parameters.

    Args:
        bf16: Use autocast where the GPU has bf16.
        args, kwargs: As in ``OptimWrapper``.
    """

    def __init__(self, *args: Any, bf16: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.average_gradients: Callable[[], None] | None = None  # before clipping; FlatDataParallel sets it
        self.autocasts = False
        if self.optimizer.param_groups[0]['params'][0].device.type != 'cuda':
            return
        self.autocasts = bf16 and torch.cuda.is_bf16_supported(including_emulation=False)
        if bf16 and not self.autocasts:
            print_log(f'{torch.cuda.get_device_name()} has no bf16: the step is in fp32', 'current', 30)
        parameters = [parameter for group in self.optimizer.param_groups for parameter in group['params']]
        if isinstance(self.optimizer, FUSED) and all(one.is_cuda and one.is_floating_point() for one in parameters):
            self._fuse()
        else:
            print_log(f'{type(self.optimizer).__name__} has no fused kernels for these weights', 'current', 30)

    def _fuse(self) -> None:
        for group in self.optimizer.param_groups:
            group.update(fused=True, foreach=False)
        self._begin_momenta()

    def state_dict(self) -> dict:
        """An ``OptimWrapper``'s: another machine decides for itself whether kernels are fused."""
        state = super().state_dict()
        return dict(state, param_groups=[dict(group, **dict.fromkeys(group.keys() & {'fused', 'foreach'}))
                                         for group in state['param_groups']])

    def load_state_dict(self, state_dict: dict) -> None:
        own = [{name: group.get(name) for name in ('fused', 'foreach')} for group in self.optimizer.param_groups]
        super().load_state_dict(dict(state_dict, param_groups=[
            {**group, **kernels} if group.keys() & {'fused'} else group
            for group, kernels in zip(state_dict['param_groups'], own)]))
        if own[0]['fused']:
            self._begin_momenta()

    def _begin_momenta(self) -> None:
        """Gives parameters without a momentum one of zero, as SGD does: a fused kernel wants all of them or none."""
        for group in self.optimizer.param_groups:
            if group.get('momentum') and not group['dampening']:
                for parameter in group['params']:
                    state = self.optimizer.state[parameter]
                    if state.get('momentum_buffer') is None:
                        state['momentum_buffer'] = torch.zeros_like(parameter)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        with super().optim_context(model), torch.autocast('cuda', torch.bfloat16, enabled=self.autocasts):
            yield

    def step(self, **kwargs: Any) -> None:
        if self.average_gradients is not None:
            self.average_gradients()
        super().step(**kwargs)
