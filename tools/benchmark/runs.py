"""A pair's training by MMEngine's runner as its config has it, on random images, without validation and checkpoints."""
import tempfile
import time
from pathlib import Path
from typing import Any

from loader import RandomCIFAR100
from measure import wait
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmkd_atsc.runner import make_fast
from mmkd_atsc.runtime.model_wrappers import unwrap_model

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def training_config(method: str, pair: str, batch_size: int, images: int, fast: bool = False) -> Config:
    """One epoch of the pair's config with its data path, hooks and log, or as ``tools/train.py --fast``."""
    config = Config.fromfile(CONFIGS / method / f'{pair}_cifar100.py')
    if fast:
        make_fast(config)
    config.model.update(teacher_ckpt=None, allow_random_teacher=True)
    use_dataset(config, 'RandomBatchedCIFAR100')
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


def use_dataset(config: Config, kind: str) -> None:
    """Trains on a data set of random images."""
    config.train_dataloader.dataset.update(type=f'mmkd_atsc.{kind}', data_root='none', download=False)


class Stopwatch(Hook):
    """The seconds of some iterations in a row, with the work of all other hooks, between two waits for the GPU.

    Args:
        warmup: How many iterations before do not count.
        steps: How many do; None: the rest of the epoch.
    """

    priority = 'LOWEST'

    def __init__(self, warmup: int, steps: int | None = None) -> None:
        self.warmup, self.steps = warmup, steps
        self.has_graph = False

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        if batch_idx == self.warmup - 1:
            wait()
            self.start = time.perf_counter()
        elif self.steps and batch_idx == self.warmup + self.steps - 1:
            self.stop(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        if not self.steps:
            self.stop(runner)

    def stop(self, runner: Runner) -> None:
        wait()
        self.seconds = time.perf_counter() - self.start
        self.has_graph = has_graph(runner)


def has_graph(runner: Runner) -> bool:
    """Whether the last step was replayed from a CUDA graph."""
    return getattr(unwrap_model(runner).train_step, 'captured', None) is not None


def train(config: Config, *hooks: Hook) -> Runner:
    """The training that a config says, watched by hooks."""
    with tempfile.TemporaryDirectory() as folder:
        config.work_dir, config.experiment_name = folder, f'benchmark_{time.time_ns()}'
        runner = Runner.from_cfg(config)
        for hook in hooks:
            runner.register_hook(hook)
        runner.train()
        return runner
