"""How many images a second a whole training takes in, from the data set to the optimizer (CPU or GPU).

python tools/benchmark/train.py --pair resnet110_resnet32 --images 1280
python tools/benchmark/train.py --pair resnet32x4_resnet8x4 --amp --cuda-graphs

Ours is an epoch of the pair's ATSC config by MMEngine's runner, with its data path, hooks and log, in bf16 and compiled
if asked; 'classic' is that with MMPretrain's per-image pipeline and MMEngine's own hook for the log, in fp32. The
authors' loop has a plain data loader with torchvision's transforms, one image at a time, two optimizers, and the
teacher's second pass, in fp32. All without workers, on random images, without validation; the first iterations, which
pay for what is set up and compiled once, do not count. The minutes are those of the protocol's 240 epochs of 50,000
images at that rate.
"""
import argparse
import time
from typing import Any, Dict, List, Optional

from measure import environment, wait

# The module beside this one must come before torch.
# isort: split

import torch
from loader import RandomCIFAR100
from mmengine.hooks import Hook
from mmengine.runner import Runner
from runs import train, training_config, use_dataset
from steps import Batch, atsc_model, authors_atsc_step, split_pair
from switches import Switches, add_arguments, add_switches, prepare, read_switches
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_number

PROTOCOL_IMAGES = 240 * 50_000


class Stopwatch(Hook):
    """The seconds of an epoch without its first iterations, with the work of all other hooks."""

    priority = 'LOWEST'

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup

    def after_train_iter(self, runner: Runner, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        if batch_idx == self.warmup - 1:
            wait()
            self.start = time.perf_counter()

    def after_train_epoch(self, runner: Runner) -> None:
        wait()
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


def runner_rate(args: argparse.Namespace, switches: Switches, classic: bool = False) -> float:
    """Images a second of an epoch by the runner."""
    config = training_config('atsc', args.pair, args.batch, args.images, switches)
    if classic:
        use_dataset(config, RandomCIFAR100)
        config.default_hooks.runtime_info = dict(type='RuntimeInfoHook')
    watch = Stopwatch(args.warmup)
    train(config, watch)
    return (args.images // args.batch - args.warmup) * args.batch / watch.seconds


def authors_rate(args: argparse.Namespace, device: torch.device) -> float:
    """Images a second of an epoch of the authors' loop."""
    teacher, student = split_pair(args.pair)
    batch = Batch(args.batch, device)
    step = authors_atsc_step(atsc_model(student, [teacher]), batch)
    loader = DataLoader(PlainImages(args.images), args.batch, shuffle=True, drop_last=True)
    start = 0.0
    for index, (pictures, labels) in enumerate(loader):
        batch.images, batch.labels = pictures.to(device), labels.to(device)
        step()
        if index == args.warmup - 1:
            wait()
            start = time.perf_counter()
    wait()
    return (len(loader) - args.warmup) * args.batch / (time.perf_counter() - start)


def protocol_minutes(rate: float) -> float:
    """Minutes of 240 epochs of CIFAR-100 at so many images a second.

    >>> round(protocol_minutes(20_000.0), 6)
    10.0
    """
    return PROTOCOL_IMAGES / rate / 60


def main(argv: Optional[List[str]] = None) -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pair', default='resnet110_resnet32', help='of configs/atsc')
    parser.add_argument('--images', type=int, help='default: 1280, on a GPU 50,000')
    parser.add_argument('--warmup', type=int, help='iterations that do not count; default: 2, on a GPU 50')
    add_arguments(parser)
    add_switches(parser)
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        split_pair(args.pair)
        device, switches = prepare(args), read_switches(args)
        on_gpu = device.type == 'cuda'
        if args.warmup is None:
            args.warmup = 50 if on_gpu else 2
        if args.images is None:
            args.images = 50_000 if on_gpu else 1280
        check_number('--warmup', args.warmup, 1, integer=True)
        check_number('--images', args.images, (args.warmup + 1) * args.batch, integer=True)
        print(f'{environment(device)}; {args.pair}, batch {args.batch}, {args.images} images, ours {switches}\n')
        theirs = authors_rate(args, device)
        rates: Dict[str, float] = {
            "authors' loop": theirs,
            'classic': runner_rate(args, Switches(channels_last=False), classic=True),
            'ours': runner_rate(args, switches)}
        print("| training | images a second | 240 epochs, minutes | to the authors' loop |\n|---|---:|---:|---:|")
        for name, rate in rates.items():
            print(f'| {name} | {rate:.1f} | {protocol_minutes(rate):.1f} | {rate / theirs:.2f} |', flush=True)


if __name__ == '__main__':
    main()
