"""Stores the logits of a config's frozen teachers, so that training reads them instead of running the teachers.

python tools/cache_teacher.py CONFIG --out FILE --epochs 10
python tools/train.py CONFIG --cfg-options default_hooks.teacher_cache.type=mmkd_atsc.TeacherCacheHook \\
    default_hooks.teacher_cache.path=FILE

Each recorded epoch has an augmentation of its own; training goes through them again and again.
"""
import argparse
import time
from pathlib import Path

import torch
from mmengine.registry import DATASETS, MODELS, init_default_scope

import mmkd_atsc  # noqa: F401  makes mmrazor importable before any config asks for it
from mmkd_atsc import cli
from mmkd_atsc.engine.teacher_cache import record_teachers


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='the config of the training, or package::path')
    parser.add_argument('--out', required=True, metavar='FILE', help='where to write')
    parser.add_argument('--epochs', type=int, default=1, help='augmentations of each image (default: 1)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the augmentation (default: 0)')
    parser.add_argument('--batch', type=int, default=250, help='images that a teacher sees at once (default: 250)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, metavar='KEY=VALUE',
                        help='override settings of the config')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        config = cli.load_config(args.config, args.cfg_options)
        cli.require(config, args.config, 'model', 'train_dataloader')
        init_default_scope(config.get('default_scope') or 'mmpretrain')
        if config.get('data_preprocessor') is not None:
            config.model.setdefault('data_preprocessor', config.data_preprocessor)
        model = MODELS.build(config.model)
        model = model.cuda() if torch.cuda.is_available() else model.to(memory_format=torch.channels_last)
        dataset = DATASETS.build(config.train_dataloader.dataset)
        start = time.time()
        record_teachers(model, dataset, args.out, args.epochs, args.seed, args.batch)
        print(f'wrote {args.out}: {", ".join(model.teachers)} on {len(dataset):,} images, {args.epochs} epochs, '
              f'{Path(args.out).stat().st_size / 1e6:,.1f} MB, {time.time() - start:.0f} s')


if __name__ == '__main__':
    main()
