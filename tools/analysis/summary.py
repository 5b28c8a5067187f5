"""Summarises a run from its config and its log: method, networks, seed, accuracy, speed."""
import json
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS, DefaultScope
from mmengine.utils import import_modules_from_strings
from mmrazor.models.losses import DKDLoss, KLDivergence

from mmkd_atsc import cli
from mmkd_atsc.errors.messages import describe
from mmkd_atsc.export.config import student_model
from mmkd_atsc.models.teacher import named_teachers
from mmkd_atsc.registry import class_of, short_name

from .cifar_networks import CIFAR_NETWORKS
from .runs import PUBLISHED, find_curve, find_metric, is_training, portable, read_config, read_environment, read_scalars

NO_TEACHER = 'no teacher'
MMRAZOR_NAMES = {DKDLoss: 'DKD', KLDivergence: 'KD'}  # MMRazor's classes have no method_name

# The settings that decide a run's result, beside its seed.
DECISIVE = ('model', 'data_preprocessor', 'train_dataloader', 'val_dataloader', 'val_evaluator', 'optim_wrapper',
            'param_scheduler', 'train_cfg', 'custom_hooks', 'auto_scale_lr', 'sync_bn')


class Run(NamedTuple):
    """A run; values that its log does not have are None.

    ``done`` and ``goal`` count the ``unit``, 'epochs' or 'iterations'. ``hours`` is the time of the training steps.
    ``identity`` is the same for runs that differ only in their seed and folders.
    """

    name: str
    method: str
    teachers: tuple[str, ...]
    student: str
    seed: int | None
    unit: str
    done: int | None
    goal: int | None
    last: float | None
    best: float | None
    processes: int | None
    images_per_second: float | None
    hours: float | None
    environment: str
    config_name: str
    config: Config
    identity: str

    @property
    def pair(self) -> str:
        return ' → '.join(filter(None, [', '.join(self.teachers), self.student]))


def read_run(run: str | Path, name: str | None = None, metric: str = 'accuracy/top1') -> Run:
    """Summarises a work directory or a published log by a validation metric."""
    scalars, config, environment = read_scalars(run), read_config(run), read_environment(run)
    validated = any(not is_training(line) for line in scalars)
    curve = find_metric(scalars, metric) if validated else []
    schedule = config.get('train_cfg') or {}
    unit = 'iterations' if 'max_iters' in schedule else 'epochs'
    model, name = config.model, name or run_names([run])[0]
    if config.get('custom_imports'):
        import_modules_from_strings(**{**config.custom_imports, 'allow_failed_imports': True})
    processes = environment.get('processes') or (1 if config.get('launcher') == 'none' else None)
    iterations, seconds = training_time(scalars)
    images = iterations * ((config.get('train_dataloader') or {}).get('batch_size') or 0) * (processes or 0)
    return Run(
        name=name, method=method_of(model), teachers=tuple(teachers_of(model)),
        student=network_name(model.get('architecture', model)), seed=(config.get('randomness') or {}).get('seed'),
        unit=unit, done=curve[-1][0] if curve else None, goal=schedule.get('max_iters', schedule.get('max_epochs')),
        last=curve[-1][1] if curve else None, best=max((value for _, value in curve), default=None),
        processes=processes, images_per_second=images / seconds if images and seconds else None,
        hours=seconds / 3600 if seconds else None, environment=describe_environment(environment),
        config_name=environment.get('config', name), config=config,
        identity=json.dumps([portable({key: config.get(key) for key in DECISIVE}), processes], sort_keys=True,
                            default=str))


def describe_environment(environment: dict[str, Any]) -> str:
    """Devices, threads and PyTorch's version in one line, as far as the log says.

    >>> describe_environment(dict(device='CPU', processes=2, threads=1, torch='2.15.0+cu132'))
    '2 x CPU, 1 thread, torch 2.15.0'
    """
    processes, threads, device = (environment.get(name) for name in ('processes', 'threads', 'device'))
    parts = [device and f'{processes} x {device}' if (processes or 1) > 1 else device,
             threads and device == 'CPU' and f'{threads} thread{"s" * (threads > 1)}',
             environment.get('torch') and f'torch {environment["torch"].partition("+")[0]}']
    return ', '.join(part for part in parts if part)


def training_time(scalars: list[dict]) -> tuple[int, float]:
    """Iterations and their seconds; a line's ``time`` stands for all iterations since the line before.

    >>> training_time([{'time': 0.5, 'iter': 10, 'step': 10}, {'time': 0.25, 'iter': 20, 'step': 20}])
    (20, 7.5)
    """
    done, seconds = 0, 0.0
    for step, time in find_curve(scalars, 'time', training=True):
        seconds += (step - done) * time
        done = step
    return done, seconds


def method_of(model: dict) -> str:
    """The name of the method: the ``method_name`` of algorithm, distiller and losses, joined by " + ".

    A loss without one counts by its type's name. Connectors may add a ``method_note``.

    >>> method_of(dict(type='mmkd_atsc.AdaptiveTeacherDistill', teacher=dict(), adaptive=False))
    'SimKD'
    >>> losses = dict(kd=dict(type='mmrazor.KLDivergence'), at=dict(type='ATLoss'))
    >>> method_of(dict(type='SingleTeacherDistill', teacher='resnet50.py', distiller=dict(distill_losses=losses)))
    'KD + ATLoss'
    """
    if 'teacher' not in model:
        return NO_TEACHER
    distiller = model.get('distiller') or {}
    losses = (distiller.get('distill_losses') or {}).values()
    names = [own_name(model), own_name(distiller), *(own_name(loss) or short_name(loss.get('type')) for loss in losses)]
    connectors = [part for given in (distiller.get('connectors') or {}).values()
                  for part in (given if isinstance(given, (list, tuple)) else [given])]
    notes = [getattr(class_of(part, 'mmrazor'), 'method_note', None) for part in connectors]
    method = ' + '.join(dict.fromkeys(filter(None, names))) or short_name(distiller.get('type'))
    return ', '.join(dict.fromkeys(filter(None, [method, *notes])))


def own_name(part: dict) -> str | None:
    """The ``method_name`` of a part's class; None if it has none or is not installed."""
    kind = class_of(part, 'mmrazor')
    name = getattr(kind, 'method_name', None) or next(
        (MMRAZOR_NAMES[base] for base in getattr(kind, '__mro__', ()) if base in MMRAZOR_NAMES), None)
    return name(part) if callable(name) else name


def teachers_of(model: dict) -> list[str]:
    """The names of the teachers' networks."""
    return [network_name(teacher.network) for teacher in named_teachers(model['teacher']).values()] \
        if 'teacher' in model else []


def network_name(network: Any) -> str:
    """The name of a network in our list of CIFAR networks, or of its config file, or of its backbone.

    >>> network_name(dict(backbone=dict(type='mmkd_atsc.CIFARWideResNet', depth=40, widen_factor=2)))
    'wrn_40_2'
    >>> network_name('mmpretrain::resnet/resnet34_8xb32_in1k.py'), network_name(dict(type='ResNet', depth=18))
    ('resnet34', 'ResNet18')
    """
    path = network if isinstance(network, str) else network.get('cfg_path')
    if path:
        return re.split(r'_\d+xb\d+', Path(path).stem)[0]
    backbone = network.get('backbone', network)
    # ATSC's students leave a closing convolution out, as their projector takes its place.
    plain = {key: value for key, value in backbone.items() if key not in ('with_last_conv', 'init_cfg', '_scope_')}
    for name, known in CIFAR_NETWORKS.items():
        if json.dumps(known['backbone'], sort_keys=True) == json.dumps(plain, sort_keys=True, default=str):
            return name
    which = backbone.get('depth') or backbone.get('arch') or backbone.get('model_name') or ''
    suffix = f'-{which}' if isinstance(which, str) and which else str(which) if isinstance(which, int) else ''
    return short_name(backbone.get('type')) + suffix


def deployed_parameters(config: Config) -> int | None:
    """Parameters of the deployed student with its copy of a shared classifier; None if it cannot be built here.

    >>> from analysis.cifar_networks import classifier
    >>> deployed_parameters(Config(dict(model=classifier('resnet8'))))
    83892
    """
    try:
        model = student_model(config)
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            student = MODELS.build(model)
    except cli.USER_ERRORS as error:
        print_log(f'the parameters of a student are not known: {describe(error)}', level=logging.WARNING)
        return None
    return sum(parameter.numel() for parameter in student.parameters())


def run_names(runs: Sequence[str | Path]) -> list[str]:
    """A name for each run: its folder or file, with as many parents as make the names differ.

    >>> run_names(['work_dirs/seed0/atsc', 'work_dirs/seed1/atsc', 'logs/kd.json.gz'])
    ['seed0/atsc', 'seed1/atsc', 'kd']
    """
    paths = [Path(str(Path(run).resolve()).removesuffix(PUBLISHED)).parts for run in runs]
    if len(set(paths)) < len(paths):
        twice = next(path for path in paths if paths.count(path) > 1)
        raise ValueError(f'{Path(*twice)}: is given twice')
    names = []
    for path in paths:
        ends = (path[-depth:] for depth in range(1, 1 + len(path)))
        names.append('/'.join(next(end for end in ends if sum(other[-len(end):] == end for other in paths) == 1)))
    return names
