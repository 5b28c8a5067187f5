"""A pair's training by MMEngine's runner as its config has it, on random images, without validation and checkpoints."""
import tempfile
import time
from pathlib import Path

from loader import RandomBatchedCIFAR100, RandomCIFAR100
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from switches import Switches

from mmkd_atsc.registry import DATASETS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'


def training_config(method: str, pair: str, batch_size: int, images: int, switches: Switches) -> Config:
    """One epoch of the pair's config with the fast switches, its data path, hooks and log as they are."""
    config = Config.fromfile(CONFIGS / method / f'{pair}_cifar100.py')
    config.model.update(teacher_ckpt=None, allow_random_teacher=True)
    use_dataset(config, RandomBatchedCIFAR100)
    config.train_dataloader.update(batch_size=batch_size, num_workers=0, persistent_workers=False, drop_last=True)
    config.optim_wrapper.update(switches.optim_wrapper())
    config.default_hooks.accelerate.update(channels_last=switches.channels_last, compile=switches.compile)
    for name in ('start_check', 'exact_resume', 'checkpoint'):
        config.default_hooks.pop(name, None)
    config.default_hooks.checkpoint = None
    config.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=2)
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        config.pop(name, None)
    config.log_level = 'WARNING'
    RandomCIFAR100.num_images = images
    return config


def use_dataset(config: Config, kind: type) -> None:
    """Trains on a data set of random images."""
    DATASETS.register_module(module=kind, force=True)
    config.train_dataloader.dataset.update(type=f'mmkd_atsc.{kind.__name__}', data_root='none', download=False)


def train(config: Config, hook: Hook) -> None:
    """The training that a config says, watched by a hook."""
    with tempfile.TemporaryDirectory() as folder:
        config.work_dir, config.experiment_name = folder, f'benchmark_{time.time_ns()}'
        runner = Runner.from_cfg(config)
        runner.register_hook(hook)
        runner.train()
