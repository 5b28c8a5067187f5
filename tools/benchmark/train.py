"""How many images a second a whole training takes in, from the data set to the optimizer (CPU or GPU).

python tools/benchmark/train.py --pair resnet110_resnet32 --images 1280
python tools/benchmark/train.py --pair resnet32x4_resnet8x4 --fast

Ours is an epoch of the pair's ATSC config by MMEngine's runner, with its data path, hooks and log, or as
``tools/train.py --fast`` if asked; 'classic' is the config with MMPretrain's per-image pipeline and MMEngine's own hook
for the log. The authors' loop has a plain data loader with torchvision's transforms, one image at a time, two
optimizers, and the teacher's second pass. All in fp32 but ours if fast, without workers, on random images, without
validation; the first iterations, which pay for what is set up and compiled once, do not count. The minutes are those of
the protocol's 240 epochs of 50,000 images at that rate.
"""
import argparse
import time

from measure import add_arguments, environment, prepare, wait

# The module beside this one must come before torch.
# isort: split

import torch
from runs import Stopwatch, train, training_config, use_dataset
from steps import Batch, atsc_model, authors_atsc_step, split_pair
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_number

PROTOCOL_IMAGES = 240 * 50_000


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


def runner_rate(args: argparse.Namespace, fast: bool = False, classic: bool = False) -> float:
    """Images a second of an epoch by the runner."""
    config = training_config('atsc', args.pair, args.batch, args.images, fast)
    if classic:
        use_dataset(config, 'RandomCIFAR100')
        config.default_hooks.accelerate.channels_last = False
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


def main(argv: list[str] | None = None) -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pair', default='resnet110_resnet32', help='of configs/atsc')
    parser.add_argument('--images', type=int, help='default: 1280, on a GPU 50,000')
    parser.add_argument('--warmup', type=int, help='iterations that do not count; default: 2, on a GPU 50')
    add_arguments(parser)
    parser.add_argument('--fast', action='store_true', help='ours as tools/train.py --fast')
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        split_pair(args.pair)
        device = prepare(args)
        on_gpu = device.type == 'cuda'
        if args.warmup is None:
            args.warmup = 50 if on_gpu else 2
        if args.images is None:
            args.images = 50_000 if on_gpu else 1280
        check_number('--warmup', args.warmup, 1, integer=True)
        check_number('--images', args.images, (args.warmup + 1) * args.batch, integer=True)
        print(f'{environment(device)}; {args.pair}, batch {args.batch}, {args.images} images, '
              f'ours {"fast" if args.fast else "as its config has it"}\n')
        theirs = authors_rate(args, device)
        rates: dict[str, float] = {
            "authors' loop": theirs,
            'classic': runner_rate(args, classic=True),
            'ours': runner_rate(args, args.fast)}
        print("| training | images a second | 240 epochs, minutes | to the authors' loop |\n|---|---:|---:|---:|")
        for name, rate in rates.items():
            print(f'| {name} | {rate:.1f} | {protocol_minutes(rate):.1f} | {rate / theirs:.2f} |', flush=True)


if __name__ == '__main__':
    main()
