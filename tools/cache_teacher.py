"""Stores what the frozen teachers of a config answer, so that training reads it instead of running them.

python tools/cache_teacher.py CONFIG --out FILE --epochs 10
python tools/train.py CONFIG --cfg-options model.teacher_cache=FILE

Each recorded epoch has an augmentation of its own; training goes through them again and again.
"""
import argparse
import inspect
import time
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope

import mmkd_atsc  # noqa: F401  makes mmrazor importable before any config asks for it
from mmkd_atsc import cli
from mmkd_atsc.models.algorithms import MultiTeacherDistill
from mmkd_atsc.models.teacher_cache import DTYPES
from mmkd_atsc.models.teacher_recording import record_teachers


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='the config of the training, or package::path')
    parser.add_argument('--out', required=True, metavar='FILE', help='where to write')
    parser.add_argument('--epochs', type=int, default=1, help='augmentations of each image (default: 1)')
    parser.add_argument('--topk', type=int, metavar='K', help='keep the K largest logits and the sum of the others '
                        '(default: all)')
    parser.add_argument('--tau', type=float, default=4.0,
                        help='with --topk: the temperature at which kept probabilities are exact (default: 4)')
    parser.add_argument('--seed', type=int, default=0, help='seed of the augmentation (default: 0)')
    parser.add_argument('--dtype', choices=DTYPES, default='float16', help='default: float16')
    parser.add_argument('--batch', type=int, default=250, help='images that a teacher sees at once (default: 250)')
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, metavar='KEY=VALUE',
                        help='override settings of the config')
    return parser.parse_args(argv)


def build_algorithm(config: Config, path: str) -> MultiTeacherDistill:
    """The algorithm of a config, if its teachers can be cached."""
    kind = MODELS.get(str(config.model.get('type')))
    if not (inspect.isclass(kind) and issubclass(kind, MultiTeacherDistill)):
        raise ValueError(f'{path}: model.type={config.model.get("type")!r} has no teacher to cache; '
                         "'mmkd_atsc.MultiTeacherDistill' has")
    model = dict(config.model, teacher_cache='')  # so that it checks itself as it would for training
    if config.get('data_preprocessor') is not None:
        model.setdefault('data_preprocessor', config.data_preprocessor)
    model = MODELS.build(model)
    if torch.cuda.is_available():
        return model.cuda()
    return model.to(memory_format=torch.channels_last)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        config = cli.load_config(args.config, args.cfg_options)
        cli.require(config, args.config, 'model', 'train_dataloader')
        init_default_scope(config.get('default_scope') or 'mmpretrain')
        model = build_algorithm(config, args.config)
        dataset = DATASETS.build(config.train_dataloader.dataset)
        start = time.time()
        header = record_teachers(model, dataset, args.out, args.epochs, args.seed, args.topk, args.tau, args.dtype,
                                 args.batch)
        print(f'wrote {args.out}: {", ".join(header.teachers)} on {header.samples:,} images of {header.dataset}, '
              f'{header.epochs} epochs, {Path(args.out).stat().st_size / 1e6:,.1f} MB, {time.time() - start:.0f} s')


if __name__ == '__main__':
    main()
