"""What the tools share: reading a config, processes without a GPU, errors of one line."""
import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import cv2
import torch
from mmengine.config import Config, DictAction
from mmengine.hooks import Hook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from mmkd_atsc.checkpoints.read import read_safely_everywhere
from mmkd_atsc.errors.checks import TrainingStopped
from mmkd_atsc.errors.messages import describe
from mmkd_atsc.errors.settings import check_settings, load_config, merge_options, require  # noqa: F401  for the tools
from mmkd_atsc.paths import CONFIGS
from mmkd_atsc.registry import short_name

# What a user can get wrong in a command or a config. Anything else is a bug and keeps its traceback.
USER_ERRORS = (ValueError, TypeError, LookupError, OSError, NotImplementedError, ImportError, AttributeError,
               AssertionError, RuntimeError, OverflowError, cv2.error)


class FirstStepHook(Hook):
    """Notes whether training has taken a step; errors before it are about ``config``. It changes nothing."""

    def __init__(self) -> None:
        self.taken = False
        self.config: Config | None = None

    def after_train_iter(self, *args, **kwargs) -> None:
        self.taken = True


def build_runner(config: Config, first_step: FirstStepHook) -> Runner:
    """The config's runner, with the hook that :func:`one_line_errors` yields."""
    first_step.config = config
    runner = RUNNERS.build(config) if 'runner_type' in config else Runner.from_cfg(config)
    runner.register_hook(first_step)
    return runner


@contextlib.contextmanager
def one_line_errors() -> Iterator[FirstStepHook]:
    """Ends the process with ``error: ...`` in one line instead of a traceback; ``MMKD_TRACEBACK=1`` brings it back.

    Yields a hook for the runner. After the first training step errors are no longer about the command or the config and
    keep their traceback, except :class:`TrainingStopped`, which is no bug.
    """
    first_step = FirstStepHook()
    try:
        yield first_step
    except USER_ERRORS as error:
        if os.environ.get('MMKD_TRACEBACK') or first_step.taken and not isinstance(error, TrainingStopped):
            raise
        print(f'error{_rank()}: {describe(error, first_step.config)}', file=sys.stderr, flush=True)
        # Without this the other processes of a job would wait for this one until their timeout.
        os._exit(2) if torch.distributed.is_initialized() else sys.exit(2)


def _rank() -> str:
    rank = os.environ.get('RANK', '0')
    return '' if rank == '0' else f' (process {rank})'


def make_fast(config: Config) -> None:
    """What ``--fast`` says: takes ``_base_/fast.py`` into a config where there is a GPU.

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
    for option in ('dtype', 'loss_scale', 'use_fsdp'):  # of AmpOptimWrapper, which FastOptimWrapper takes the place of
        wrapper.pop(option, None)
    wrapper.update(fast['optim_wrapper'])
    own = config.get('model_wrapper_cfg') or {}
    if config.get('find_unused_parameters') or own.get('find_unused_parameters'):
        print('--fast: find_unused_parameters has no meaning, gradients are averaged after backward', flush=True)
    config.model_wrapper_cfg = fast['model_wrapper_cfg']


def default_work_dir(config_path: str) -> str:
    return os.path.join('work_dirs', Path(config_path).stem)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'error: {message}; see {self.prog} --help\n')


def is_setting(word: str) -> bool:
    """Whether a word of the command line is ``KEY=VALUE``.

    >>> is_setting('model.head.loss=1'), is_setting('model..loss=1'), is_setting('model')
    (True, False, False)
    """
    key, equals, _ = word.partition('=')
    return bool(equals) and all(key.split('.'))


class Options(DictAction):
    """``KEY=VALUE ...`` as a dictionary."""

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for word in values:
            if not is_setting(word):
                parser.error(f'{option_string} {word}: must be KEY=VALUE')
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:
            parser.error(f'{option_string}: {error}')


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that train and test have in common, as OpenMMLab's tools name them."""
    parser.add_argument('config', help='config file, or package::path')
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/<config name>)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE',
                        help='override settings of the config: train_cfg.max_epochs=2 optim_wrapper.optimizer.lr=0.1')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')


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
    if config.get('sync_bn') == 'torch':
        raise ValueError("sync_bn='torch' needs GPUs and this machine has none: PyTorch has no such layer for CPUs")
    torch.distributed.init_process_group('gloo')
    own = config.get('model_wrapper_cfg') or {}
    if short_name(own.get('type', 'MMDistributedDataParallel')) != 'MMDistributedDataParallel':
        return
    wrapper = dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False,
                   find_unused_parameters=config.get('find_unused_parameters', False))
    wrapper.update(own)
    config.model_wrapper_cfg = wrapper


def leave_processes() -> None:
    """All processes of a job leave together, and at once.

    One that exits first can abort another that still talks to it; and PyTorch's communication threads can abort the
    interpreter's own shutdown (``terminate called without an active exception``), which would turn a finished training
    into a failed one. So the process ends here, its output written.
    """
    if not torch.distributed.is_initialized():
        return
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
