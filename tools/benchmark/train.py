"""How many images a second a whole training takes in, from the data set to the optimizer (CPU or GPU).

python tools/benchmark/train.py --pair resnet110_resnet32 --images 1280

Ours is an epoch of the pair's ATSC config by MMEngine's runner, with its data path, hooks and log; 'classic' is that
with MMPretrain's per-image pipeline and MMEngine's own hook for the log. The authors' loop has a plain data loader with
torchvision's transforms, one image at a time, two optimizers, and the teacher's second pass. All without workers, on
random images, without validation; the first iterations do not count.
"""
import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

from measure import environment

# The module beside this one must come before torch.
# isort: split

import torch
from loader import RandomBatchedCIFAR100, RandomCIFAR100
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from steps import Batch, atsc_model, authors_atsc_step, split_pair
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mmkd_atsc import cli
from mmkd_atsc.checks import check_number
from mmkd_atsc.registry import DATASETS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
WARMUP = 2


class Stopwatch(Hook):
    """The seconds of an epoch without its first iterations, with the work of all other hooks."""

    priority = 'LOWEST'

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        if batch_idx == WARMUP - 1:
            _wait()
            self.start = time.perf_counter()

    def after_train_epoch(self, runner: Runner) -> None:
        _wait()
        self.seconds = time.perf_counter() - self.start


class PlainImages(Dataset):
    """Images one at a time, as torchvision's data sets give them to a loop."""

    def __init__(self, images: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randint(256, (images, 3, 32, 32), generator=generator, dtype=torch.uint8)
        self.transform = transforms.Compose([
            transforms.ToPILImage(), transforms.RandomCrop(32, padding=4), transforms.RandomHorizontalFlip(),
            transforms.ToTensor(), transforms.Normalize([0.5] * 3, [0.25] * 3)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple:
        return self.transform(self.images[index]), index % 100


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def runner_rate(pair: str, batch_size: int, images: int, classic: bool) -> float:
    """Images a second of an epoch by the runner."""
    config = Config.fromfile(CONFIGS / 'atsc' / f'{pair}_cifar100.py')
    config.model.update(teacher_ckpt=None, allow_random_teacher=True)
    dataset = config.train_dataloader.dataset
    kind = RandomCIFAR100 if classic else RandomBatchedCIFAR100
    DATASETS.register_module(module=kind, force=True)
    dataset.update(type=f'mmkd_atsc.{kind.__name__}', data_root='none', download=False)
    config.train_dataloader.update(batch_size=batch_size, num_workers=0, persistent_workers=False, drop_last=True)
    if classic:
        config.default_hooks.runtime_info = dict(type='RuntimeInfoHook')
        config.default_hooks.accelerate.channels_last = False
    for name in ('start_check', 'exact_resume', 'checkpoint'):
        config.default_hooks.pop(name, None)
    config.default_hooks.checkpoint = None
    config.train_cfg = dict(by_epoch=True, max_epochs=1, val_interval=2)
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        config.pop(name, None)
    config.log_level, watch = 'WARNING', Stopwatch()
    RandomCIFAR100.num_images = images
    with tempfile.TemporaryDirectory() as folder:
        config.work_dir, config.experiment_name = folder, f'{pair}_{classic}_{time.time_ns()}'
        runner = Runner.from_cfg(config)
        runner.register_hook(watch)
        runner.train()
    return (images // batch_size - WARMUP) * batch_size / watch.seconds


def authors_rate(pair: str, batch_size: int, images: int, device: torch.device) -> float:
    """Images a second of an epoch of the authors' loop."""
    teacher, student = split_pair(pair)
    batch = Batch(batch_size, device)
    step = authors_atsc_step(atsc_model(student, [teacher]), batch)
    loader = DataLoader(PlainImages(images), batch_size, shuffle=True, drop_last=True)
    start = 0.0
    for index, (pictures, labels) in enumerate(loader):
        batch.images, batch.labels = pictures.to(device), labels.to(device)
        step()
        if index == WARMUP - 1:
            _wait()
            start = time.perf_counter()
    _wait()
    return (len(loader) - WARMUP) * batch_size / (time.perf_counter() - start)


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pair', default='resnet110_resnet32', help='of configs/atsc')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--images', type=int, default=1280)
    parser.add_argument('--threads', type=int, help="default: torch's")
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        split_pair(args.pair)
        check_number('--batch', args.batch, 2, integer=True)
        check_number('--images', args.images, (WARMUP + 1) * args.batch, integer=True)
        if args.threads is not None:
            torch.set_num_threads(check_number('--threads', args.threads, 1, integer=True))
        device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
        print(f'{environment()}; {args.pair}, batch {args.batch}, {args.images} images\n')
        theirs = authors_rate(args.pair, args.batch, args.images, device)
        rates: Dict[str, float] = {
            "authors' loop": theirs,
            'classic': runner_rate(args.pair, args.batch, args.images, classic=True),
            'ours': runner_rate(args.pair, args.batch, args.images, classic=False)}
        print("| training | images a second | to the authors' loop |\n|---|---:|---:|")
        for name, rate in rates.items():
            print(f'| {name} | {rate:.1f} | {rate / theirs:.2f} |', flush=True)


if __name__ == '__main__':
    main()
