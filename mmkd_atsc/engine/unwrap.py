"""What is inside the wrappers that MMEngine puts around a model and its optimizers."""
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
