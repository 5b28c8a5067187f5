"""The wrappers that MMEngine puts around a model and its optimizers: what is inside, and a new one."""
import gc
from typing import List

from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import nn


def unwrap(runner: Runner) -> nn.Module:
    """The runner's model without its distributed wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def optim_wrappers(runner: Runner) -> List[OptimWrapper]:
    """The wrappers of the runner's optimizers, one each."""
    wrapper = runner.optim_wrapper
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def rewrap(runner: Runner) -> None:
    """A new distributed wrapper for the parameters that require gradients now.

    DistributedDataParallel decides once, when it is made, which gradients it waits for. The old wrapper must be gone
    before the new one is made: its hooks hang on the parameters.
    """
    module, wrapper_config = unwrap(runner), runner.cfg.get('model_wrapper_cfg')
    runner.model = None
    gc.collect()
    runner.model = runner.wrap_model(wrapper_config, module)
    runner.model.train()
