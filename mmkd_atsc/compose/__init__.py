"""From a config that trains a classifier, and the names of teachers, to a short config that distils it."""
from pathlib import Path
from typing import Optional, Sequence, Union

from mmengine.registry import DefaultScope

from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_choice, check_number

from .given import SMALL_SIDE, Named, Place, flatten, is_new_style, training_size
from .model import METHODS, Pair
from .surroundings import surroundings
from .text import assignment, comment, read_inline

__all__ = ['METHODS', 'Named', 'compose', 'flatten', 'is_new_style', 'read_inline']


def compose(student: Union[str, dict], teachers: Sequence[Named], method: str, base: Optional[str] = None,
            folder: Union[str, Path] = '.', image_size: Optional[int] = None,
            allow_random_teacher: bool = False) -> str:
    """The text of a config that distils ``student`` from ``teachers``; its data and schedule are those of ``base``.

    Args:
        student: Config of a classifier (a file, ``package::path``, a dict), or of a distillation, whose student it is.
        teachers: One, or several.
        method: 'aekt' or 'atsc'.
        base: The config to inherit. None: the student's.
        folder: Where the config is going to lie: files that it inherits are named from there.
        image_size: Side of the images. None: what the pipeline of ``base`` says.
        allow_random_teacher: Teachers need no checkpoints. Only tests want that.

    >>> teacher = Named('mmkd_atsc::teachers/resnet20_cifar100.py', 'resnet20.pth')
    >>> print(compose('mmkd_atsc::teachers/resnet8_cifar100.py', [teacher], 'aekt'))  # doctest: +ELLIPSIS
    # AEKT: resnet8_cifar100 learns from resnet20_cifar100.
    _base_ = ['mmkd_atsc::teachers/resnet8_cifar100.py']
    model = dict(
        _delete_=True,
        type='mmkd_atsc.MultiTeacherDistill',
        architecture=_base_.model,
        teacher=dict(cfg_path='mmkd_atsc::teachers/resnet20_cifar100.py'),
        teacher_ckpt='resnet20.pth',
        distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=100, tau=4.0, beta=8.0))
    ...
    """
    check_choice('method', method, METHODS)
    if image_size is not None:
        check_number('image_size', image_size, low=1, integer=True)
    if not teachers:
        raise ValueError('no teacher is given: at least one is needed')
    if base is None and isinstance(student, dict):
        raise ValueError('a student that is given as a dict brings no data and no schedule: give a base, the config '
                         'that has them')
    base = base or student
    if is_new_style(base):
        raise ValueError(f'{base}: no _base_ can name a config of the new style (read_base), only a flat copy of it')
    whole = cli.load_config(base)
    cli.require(whole, base, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
    size = training_size(whole) if image_size is None else (image_size, image_size)
    small, place = max(size) <= SMALL_SIDE, Place(folder)
    pair = Pair(student, whole, teachers, size, small, place, inherits=base == student,
                allow_random=allow_random_teacher)
    with DefaultScope.overwrite_default_scope(whole.get('default_scope') or 'mmpretrain'):
        model = pair.lines(method)
    names = ' and '.join(teacher.stem for teacher in teachers)
    lines = [comment(f'{method.upper()}: {Named(student).stem} learns from {names}.'),
             assignment('_base_', [place.inherited(base)]), *model, *surroundings(whole, method, small, pair.inherits)]
    return '\n'.join(lines) + '\n'
