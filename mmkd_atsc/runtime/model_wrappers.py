"""Unwraps the model of a runner, and wraps it anew."""
import gc

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn


def unwrap_model(runner: Runner) -> nn.Module:
    """The runner's model without its distributed wrapper."""
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


def rewrap_model(runner: Runner) -> None:
    """Makes a new distributed wrapper, for the parameters that require gradients now.

    DistributedDataParallel decides once, when it is made, which gradients it waits for. The old wrapper must be gone
    before the new one is made: its hooks hang on the parameters.
    """
    module, wrapper_config = unwrap_model(runner), runner.cfg.get('model_wrapper_cfg')
    runner.model = None
    gc.collect()
    runner.model = runner.wrap_model(wrapper_config, module)
    runner.model.train()
