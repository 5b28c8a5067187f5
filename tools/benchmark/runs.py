"""Trains a pair of networks by its config through MMEngine's runner, on random images, to be timed."""
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from measure import wait
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR100

from mmkd_atsc.datasets import BatchedCIFAR100
from mmkd_atsc.paths import CONFIGS
from mmkd_atsc.registry import DATASETS
from mmkd_atsc.runtime.model_wrappers import unwrap_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from runner import make_fast

from analysis.cifar_networks import CIFAR_NETWORKS

METHODS = ('atsc', 'aekt')


@DATASETS.register_module(force=True)  # a config, too, may import this file
class RandomCIFAR100(CIFAR100):
    """Random images instead of the files."""

    num_images = 50_000

    def load_data_list(self) -> list[dict]:
        random = np.random.RandomState(0)
        images = random.randint(256, size=(self.num_images, 32, 32, 3), dtype=np.uint8)
        labels = random.randint(100, size=self.num_images).tolist()
        return [dict(img=image, gt_label=label) for image, label in zip(images, labels)]


@DATASETS.register_module(force=True)
class RandomBatchedCIFAR100(BatchedCIFAR100, RandomCIFAR100):
    """The same images, batched."""


def split_pair(pair: str) -> list[str]:
    """The names of teacher and student in ``<teacher>_<student>``.

    >>> split_pair('wrn_40_2_resnet8x4')
    ['wrn_40_2', 'resnet8x4']
    """
    words = pair.split('_')
    for cut in range(1, len(words)):
        teacher, student = '_'.join(words[:cut]), '_'.join(words[cut:])
        if teacher in CIFAR_NETWORKS and student in CIFAR_NETWORKS:
            return [teacher, student]
    raise ValueError(f'{pair}: not <teacher>_<student> of {", ".join(CIFAR_NETWORKS)}')


def training_config(method: str, pair: str, batch_size: int, images: int, fast: bool = False) -> Config:
    """One epoch of the pair's config with its data path, hooks and log; ``fast``: as ``tools/train.py --fast``."""
    config = Config.fromfile(CONFIGS / method / f'{pair}_cifar100.py')
    if fast:
        make_fast(config)
    config.model.update(teacher_ckpt=None, allow_random_teacher=True)
    config.train_dataloader.dataset.update(type='mmkd_atsc.RandomBatchedCIFAR100', data_root='none', download=False)
    config.train_dataloader.update(batch_size=batch_size, num_workers=0, persistent_workers=False, drop_last=True)
    for name in ('start_check', 'exact_resume'):
        config.default_hooks.pop(name, None)
    config.default_hooks.checkpoint = None
    config.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=2)
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        config.pop(name, None)
    config.log_level = 'WARNING'
    RandomCIFAR100.num_images = images
    return config


class Stopwatch(Hook):
    """Times ``steps`` iterations after ``warmup``, with the work of all other hooks, between two waits for the GPU."""

    priority = 'LOWEST'

    def __init__(self, warmup: int, steps: int) -> None:
        self.warmup, self.steps = warmup, steps
        self.has_graph = False

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        if batch_idx == self.warmup - 1:
            wait()
            self.start = time.perf_counter()
        elif batch_idx == self.warmup + self.steps - 1:
            wait()
            self.seconds = time.perf_counter() - self.start
            self.has_graph = has_graph(runner)


def has_graph(runner: Runner) -> bool:
    """Whether the last step was replayed from a CUDA graph."""
    return getattr(unwrap_model(runner).train_step, 'captured', None) is not None


def train(config: Config, *hooks: Hook) -> Runner:
    """Trains a config with further hooks."""
    with tempfile.TemporaryDirectory() as folder:
        config.work_dir, config.experiment_name = folder, f'benchmark_{time.time_ns()}'
        runner = Runner.from_cfg(config)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
        return runner
