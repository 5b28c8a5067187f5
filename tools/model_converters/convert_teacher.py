"""Brings a checkpoint of RepDistiller, mdistiller, SimKD, ATSC or torchvision into the layout of MMPretrain.

python tools/model_converters/convert_teacher.py resnet32x4_best.pth checkpoints/resnet32x4.pth --arch resnet32x4
"""
import argparse

from mmkd_atsc import cli
from mmkd_atsc.checkpoints.convert import ARCHITECTURES, convert_file


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', help='the checkpoint to read')
    parser.add_argument('target', help='the checkpoint to write')
    parser.add_argument('--arch', required=True, help=f'the network: {", ".join(ARCHITECTURES)}')
    parser.add_argument('--num-classes', type=int, help='default: 100; 1000 for torchvision/*')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        convert_file(args.source, args.target, args.arch, args.num_classes)
        print(f'wrote {args.target}: {args.arch}')


if __name__ == '__main__':
    main()
