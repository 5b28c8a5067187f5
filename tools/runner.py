"""For train.py and test.py: builds the runner, with ``--fast`` and processes that need no GPU."""
import logging
import os
import sys
from typing import Any

import torch
from console import ConsoleHook
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmkd_atsc.checkpoints.read import read_safely_everywhere
from mmkd_atsc.cli import Progress
from mmkd_atsc.paths import CONFIGS
from mmkd_atsc.registry import short_name


def build_runner(config: Config, progress: Progress) -> Runner:
    """The config's runner, with a short console; ``progress`` is what ``cli.one_line_errors`` yields."""
    kind: Any = RUNNERS.get(config.get('runner_type', 'Runner'))
    hook = ConsoleHook(progress)

    class ToolRunner(kind):

        def build_logger(self, *args, **kwargs) -> MMLogger:
            logger = super().build_logger(*args, **kwargs)
            logger.handlers[0].addFilter(hook.shows)
            return logger

    logging.raiseExceptions = False  # on a full disk every line of the log would print a traceback
    runner = ToolRunner.from_cfg(config)
    runner.register_hook(hook)
    return runner


def make_fast(config: Config) -> None:
    """Merges ``_base_/fast.py`` into a config where there is a GPU, as ``--fast`` asks for.

    A hook that the config sets to None, a layout that it chooses, and optimizers of another kind stay.
    """
    if not torch.cuda.is_available():
        print('--fast does nothing: there is no GPU', flush=True)
        return
    fast = Config.fromfile(CONFIGS / '_base_' / 'fast.py').fast.to_dict()
    hooks, wrapper = dict(config.get('default_hooks') or {}), config.optim_wrapper
    for name, hook in fast['default_hooks'].items():
        if hooks.get(name, {}) is not None:
            own = hooks.get(name, {})
            hooks[name] = {**own, **hook, **{key: own[key] for key in ('channels_last', ) if key in own}}
    config.default_hooks = hooks
    kind = short_name(wrapper.get('type', 'OptimWrapper'))
    if 'optimizer' not in wrapper or kind not in ('OptimWrapper', 'AmpOptimWrapper', 'FastOptimWrapper'):
        print(f'--fast: the optimizer stays as it is, in fp32 and not fused ({kind})', flush=True)
        return
    for option in ('dtype', 'loss_scale', 'use_fsdp'):  # AmpOptimWrapper's; FastOptimWrapper replaces it
        wrapper.pop(option, None)
    wrapper.update(fast['optim_wrapper'])
    own = config.get('model_wrapper_cfg') or {}
    if config.get('find_unused_parameters') or own.get('find_unused_parameters'):
        print('--fast: find_unused_parameters has no meaning, gradients are averaged after backward', flush=True)
    config.model_wrapper_cfg = fast['model_wrapper_cfg']


def prepare_processes(config: Config, launcher: str, local_rank: int = 0) -> None:
    """Makes checkpoints safe to read, and ``launcher`` work where there is no GPU.

    There MMEngine itself would ask for CUDA devices. So the process group is made here, over gloo, and MMEngine skips
    its own; and the model is wrapped without device ids, which DistributedDataParallel does not take for a CPU model.
    """
    read_safely_everywhere()
    config.launcher = launcher
    os.environ.setdefault('LOCAL_RANK', str(local_rank))
    if launcher == 'none' or torch.cuda.is_available():
        return
    if launcher != 'pytorch':
        raise ValueError(f'--launcher {launcher} needs GPUs and this machine has none; use tools/dist_train.sh')
    torch.distributed.init_process_group('gloo')
    own = config.get('model_wrapper_cfg') or {}
    if short_name(own.get('type', 'MMDistributedDataParallel')) == 'MMDistributedDataParallel':
        config.model_wrapper_cfg = dict(
            dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                 find_unused_parameters=config.get('find_unused_parameters', False)), **own)


def leave_processes() -> None:
    """Ends all processes of a job at once: one that exits first can abort others, PyTorch's threads the shutdown."""
    if not torch.distributed.is_initialized():
        return
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
