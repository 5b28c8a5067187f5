"""Writes a config that distils an existing classifier's config from one or several teachers, and can start it.

    python tools/distill.py STUDENT_CONFIG --teacher TEACHER_CONFIG --method aekt --out FILE

A config is a file, package::path such as mmpretrain::resnet/resnet34_8xb32_in1k.py, or "dict(type=...)" in quotes. What
is written inherits the student's data, augmentation, schedule and hooks. Without --out and --train it is printed.
"""
import argparse
import runpy
from pathlib import Path
from typing import List, Optional, Union

import mmkd_atsc  # noqa: F401  makes mmrazor importable before any config asks for it
from mmkd_atsc import cli
from mmkd_atsc.compose import METHODS, Named, compose, flatten, is_new_style, read_inline

ZOO = 'zoo'


def parse_args(argv: Optional[List[str]] = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('student', metavar='STUDENT_CONFIG', help='the config to distil')
    parser.add_argument('--teacher', action='append', required=True, metavar='CONFIG', help='once for each teacher')
    parser.add_argument('--teacher-ckpt', action='append', default=[], metavar='FILE_OR_URL',
                        help="once for each teacher, in their order; 'zoo': the model zoo's (default: all of them)")
    parser.add_argument('--method', choices=METHODS, required=True)
    parser.add_argument('--base', metavar='CONFIG', help="for data and schedule (default: the student's config)")
    parser.add_argument('--out', type=Path, metavar='FILE', help='where to write the config')
    parser.add_argument('--force', action='store_true', help='write over a file that is there')
    parser.add_argument('--image-size', type=int, metavar='SIDE', help='default: what the training pipeline says')
    parser.add_argument('--allow-random-teacher', action='store_true', help='teachers need no weights; for tests')
    parser.add_argument('--train', nargs=argparse.REMAINDER, metavar='OPTION',
                        help='start the training; all that follows is for tools/train.py')
    return parser.parse_args(argv)


def network(text: str) -> Union[str, dict]:
    return read_inline(text) if text.lstrip().startswith(('dict(', '{')) else text


def named_teachers(configs: List[str], checkpoints: List[str]) -> List[Named]:
    if checkpoints and len(checkpoints) != len(configs):
        raise ValueError(f'--teacher-ckpt is given {len(checkpoints)} times for {len(configs)} teachers: one for each, '
                         f"in their order, '{ZOO}' for the model zoo's")
    checkpoints = [None if path == ZOO else path for path in checkpoints] or [None] * len(configs)
    return [Named(network(config), path) for config, path in zip(configs, checkpoints)]


def inheritable(path: str, out: Optional[Path], force: bool) -> str:
    """A config that a file can inherit: the one that is given, or a copy of a new-style one beside ``out``."""
    if not is_new_style(path):
        return path
    if out is None:
        raise ValueError(f'{path}: is of the new style (read_base); --out is needed, a flat copy is written beside it')
    copy = out.with_name(f'{Path(path).stem}_flat.py')
    write(flatten(path), copy, force)
    return str(copy)


def write(text: str, path: Path, force: bool) -> None:
    """Writes a config and reads it again; nothing that is there is lost unasked."""
    if path.is_file() and path.read_text() != text and not force:
        raise ValueError(f'{path} is there already and differs: --force writes over it')
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    cli.load_config(str(path))


def main(argv: Optional[List[str]] = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors():
        student, teachers = network(args.student), named_teachers(args.teacher, args.teacher_ckpt)
        out = args.out
        if args.train is not None and out is None:
            pair = '_'.join(one.stem for one in (*teachers, Named(student)))
            out = Path('work_dirs') / f'{args.method}_{pair}.py'
        base = args.base and inheritable(args.base, out, args.force)
        if isinstance(student, str) and base is None:
            student = inheritable(student, out, args.force)
        text = compose(student, teachers, args.method, base, out.parent if out else '.', args.image_size,
                       args.allow_random_teacher)
        if out is None:
            print(text, end='')
            return
        write(text, out, args.force)
        print(f'wrote {out}', flush=True)
    if args.train is not None:
        runpy.run_path(str(Path(__file__).with_name('train.py')))['main']([str(out), *args.train])


if __name__ == '__main__':
    main()
