"""What the command lines of the tools share: arguments, reading the config, errors of one line.

No import here is slow: ``--help`` and a wrong path are answered before PyTorch is imported.
"""
import argparse
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

import cv2
from mmengine.config import DictAction

from mmkd_atsc.errors.checks import TrainingStopped
from mmkd_atsc.errors.messages import FULL_DISK, describe
from mmkd_atsc.errors.settings import load_config, require  # noqa: F401  for the tools

# What a user can get wrong in a command or a config. Anything else is a bug and keeps its traceback.
USER_ERRORS = (ValueError, TypeError, LookupError, OSError, NotImplementedError, ImportError, AttributeError,
               AssertionError, RuntimeError, OverflowError, cv2.error)


class Progress:
    """Whether training has begun; an error before its first step is one of the command or of the config."""

    has_trained = False


@contextlib.contextmanager
def one_line_errors() -> Iterator[Progress]:
    """Ends the process with ``error: ...`` in one line instead of a traceback; ``MMKD_TRACEBACK=1`` brings it back.

    After the first training step errors keep their traceback, except :class:`TrainingStopped` and a full disk.
    """
    progress = Progress()
    try:
        yield progress
    except USER_ERRORS as error:
        is_no_bug = isinstance(error, TrainingStopped) or getattr(error, 'errno', None) in FULL_DISK
        if os.environ.get('MMKD_TRACEBACK') or progress.has_trained and not is_no_bug:
            raise
        rank = os.environ.get('RANK', '0')
        where = '' if rank == '0' else f' (process {rank})'
        sys.stdout.flush()
        print(f'error{where}: {describe(error)}', file=sys.stderr, flush=True)
        # In a job, the usual way out would wait for the other processes.
        os._exit(2) if 'RANK' in os.environ else sys.exit(2)


def default_work_dir(config_path: str) -> str:
    """``work_dirs/`` and the config's place below a folder ``configs``; its name, if it lies in none."""
    path = os.path.abspath(config_path.replace('::', '/configs/'))
    _, lies_below, place = path.rpartition('/configs/')
    return os.path.join('work_dirs', os.path.splitext(place if lies_below else os.path.basename(path))[0])


class Parser(argparse.ArgumentParser):
    """Says what is wrong with a command in one line, without the usage before it."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f'error: {message}; see {self.prog} --help\n')


def is_setting(word: str) -> bool:
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
    parser.add_argument('--work-dir', help='where logs and checkpoints go (default: work_dirs/<method>/<config name>)')
    parser.add_argument('--cfg-options', nargs='+', action=Options, metavar='KEY=VALUE',
                        help='override settings of the config: train_cfg.max_epochs=2 optim_wrapper.optimizer.lr=0.1')
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help='set by the launcher')
