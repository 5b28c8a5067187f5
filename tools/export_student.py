"""Takes the student out of a checkpoint, as files that need neither teacher nor training.

python tools/export_student.py CONFIG CHECKPOINT --out DIR [--onnx]

DIR/student.py and DIR/student.pth are read by MMPretrain:

    mmpretrain.ImageClassificationInferencer('DIR/student.py', pretrained='DIR/student.pth')('image.png')
"""
import argparse

import mmkd_atsc  # noqa: F401  makes mmrazor importable before any config asks for it
from mmkd_atsc import cli
from mmkd_atsc.export import FORMATS, export_student
from mmkd_atsc.export.images import height_x_width


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='the config of the training, or package::path')
    parser.add_argument('checkpoint', help='a checkpoint that tools/train.py wrote with this config')
    parser.add_argument('--out', required=True, metavar='DIR', help='where to write')
    for name, form in FORMATS.items():
        parser.add_argument(f'--{name.replace("_", "-")}', dest='formats', action='append_const', const=name,
                            help=f'also write {form.file}')
    parser.add_argument('--half', action='store_true', help='weight matrices of student.pth in half precision')
    parser.add_argument('--with-preprocessing', action='store_true',
                        help='the other formats take pixels from 0 to 255 and normalise them')
    parser.add_argument('--image-size', type=height_x_width, metavar='SIDE',
                        help="side of the images, or HEIGHTxWIDTH (default: what the config's test pipeline says)")
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, metavar='KEY=VALUE',
                        help='override settings of the config')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        config = cli.load_config(args.config, args.cfg_options)
        cli.require(config, args.config, 'model')
        print(export_student(config, args.checkpoint, args.out, args.formats or (), args.half, args.with_preprocessing,
                             args.image_size))


if __name__ == '__main__':
    main()
