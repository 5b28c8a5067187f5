"""Takes the student out of a checkpoint, as files that need neither teacher nor training.

python tools/export_student.py CONFIG CHECKPOINT --out DIR [--onnx] [--int8]

DIR/student.py and DIR/student.pth are read by MMPretrain:

    mmpretrain.ImageClassificationInferencer('DIR/student.py', pretrained='DIR/student.pth')('image.png')

--int8 quantises the ONNX file on images of the training, and scores both files on its validation data.
"""
import argparse

from mmengine.logging import MMLogger

import mmkd_atsc  # noqa: F401  makes mmrazor importable before any config asks for it
from analysis import int8
from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.export import FORMATS, export_student
from mmkd_atsc.export.formats import check_packages
from mmkd_atsc.export.images import height_x_width


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='the config of the training, or package::path')
    parser.add_argument('checkpoint', help='a checkpoint that tools/train.py wrote with this config')
    parser.add_argument('--out', required=True, metavar='DIR', help='where to write')
    for name, form in FORMATS.items():
        parser.add_argument(f'--{name.replace("_", "-")}', dest='formats', action='append_const', const=name,
                            default=[], help=f'also write {form.file}')
    parser.add_argument('--int8', action='store_true',
                        help=f'also write {FORMATS["onnx"].file} and, of it, {int8.FILE}; this reads the data')
    parser.add_argument('--max-drop', type=float, metavar='POINTS',
                        help='top-1 accuracy that int8 may lose, else it is not written (default: 1)')
    parser.add_argument('--weight-bits', type=int, choices=[7, 8],
                        help='of int8 (default: 8); 7 for x86 processors without VNNI')
    parser.add_argument('--half', action='store_true', help='weight matrices of student.pth in half precision')
    parser.add_argument('--with-preprocessing', action='store_true',
                        help='the other formats take pixels from 0 to 255 and normalise them')
    parser.add_argument('--image-size', type=height_x_width, metavar='SIDE',
                        help="side of the images, or HEIGHTxWIDTH (default: what the config's test pipeline says)")
    parser.add_argument('--cfg-options', nargs='+', action=cli.Options, metavar='KEY=VALUE',
                        help='override settings of the config')
    args = parser.parse_args(argv)
    for name, default in (('max_drop', 1.0), ('weight_bits', 8)):
        if getattr(args, name) is None:
            setattr(args, name, default)
        elif not args.int8:
            parser.error(f'--{name.replace("_", "-")} is for --int8')
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        config = cli.load_config(args.config, args.cfg_options)
        cli.require(config, args.config, 'model', *['train_dataloader', 'val_dataloader'] * args.int8)
        check_number('--max-drop', args.max_drop, 0)
        formats = list(dict.fromkeys([*args.formats, *['onnx'] * args.int8]))
        check_packages(formats)
        MMLogger.get_instance('export', log_level='ERROR')  # it lists how weights begin that are then read
        # Read before anything is written: the data may be missing.
        images = int8.DeployedImages(config, args.with_preprocessing) if args.int8 else None
        report = export_student(config, args.checkpoint, args.out, formats, args.half, args.with_preprocessing,
                                args.image_size)
        print(report, flush=True)
        if images:
            print(int8.add_int8(report.files['onnx'], images, args.max_drop, args.weight_bits))


if __name__ == '__main__':
    main()
