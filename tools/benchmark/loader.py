"""How many CIFAR-100 images a second the batched path gives, beside MMPretrain's pipeline (CPU, one process).

python tools/benchmark/loader.py --data-root data/cifar100 --batch 64 --repeats 5

Each is the training data of our configs the whole way: fetched, collated and preprocessed to a normalised tensor with
its data samples, without workers. The rivals take turns of an epoch and the median counts. Without a data root the
images are random ones of CIFAR-100's shape.
"""
import argparse
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measure import CPU, environment, median_times
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR100

from mmkd_atsc import cli
from mmkd_atsc.datasets import BatchedCIFAR100
from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.registry import DATASETS

CONFIGS = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'datasets'


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


def make_epoch(name: str, batch_size: int, data_root: str | None) -> Callable[[], int]:
    """A function that makes all training batches of a config once, and says how many images they had."""
    config = Config.fromfile(CONFIGS / f'{name}.py')
    config.train_dataloader.update(batch_size=batch_size, num_workers=0, persistent_workers=False)
    dataset = config.train_dataloader.dataset
    dataset.update(data_root=data_root or 'none', download=False)
    if not data_root:
        dataset.type = RandomBatchedCIFAR100 if 'Batched' in dataset.type else RandomCIFAR100
    loader = Runner.build_dataloader(config.train_dataloader, seed=0)
    preprocessor = MODELS.build(config.data_preprocessor)
    return lambda: sum(len(preprocessor(batch, training=True)['data_samples']) for batch in loader)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data-root', default=os.environ.get('MMKD_DATA_ROOT'),
                        help='folder with cifar-100-python (default: $MMKD_DATA_ROOT, or else random images)')
    parser.add_argument('--images', type=int, default=50_000, help='how many, if they are random')
    parser.add_argument('--batch', type=int, default=64)
    parser.add_argument('--repeats', type=int, default=5, help='epochs of each')
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        RandomCIFAR100.num_images = check_number('--images', args.images, 1, integer=True)
        check_number('--batch', args.batch, 1, integer=True)
        check_number('--repeats', args.repeats, 1, integer=True)
        torch.set_num_threads(check_number('--threads', args.threads, 1, integer=True))
        MMLogger.get_instance('benchmark', log_level='WARNING')
        init_default_scope('mmpretrain')
        epochs = {name: make_epoch(name, args.batch, args.data_root) for name in ('cifar100_classic', 'cifar100')}
        print(f'{environment(CPU)}; {args.data_root or "random images"}, batch {args.batch}, one process on the CPU, '
              f'median of {args.repeats} epochs\n')
        images = epochs['cifar100']()
        times = median_times(epochs, args.repeats, warmup=1)
        print('| config | images a second | ratio |\n|---|---:|---:|')
        for name, seconds in times.items():
            print(f'| {name} | {images / seconds:,.0f} | {times["cifar100_classic"] / seconds:.2f} |')


if __name__ == '__main__':
    main()
