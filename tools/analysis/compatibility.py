"""Tests which classifier families of MMPretrain teach and learn: a step of each method with a small network of each.

python tools/analysis/compatibility.py --out configs/mix/COMPATIBILITY.md

Every network of families.py has random weights and takes one step of AEKT, as the student of itself, and two of ATSC:
as the teacher of a small CNN, and as the student of a small CNN (or of a small vision transformer, if it gives no map).
It is supported, or refused in one line before the step; anything else ends this tool.
"""
import argparse
import copy
import sys
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmkd_atsc import cli
from mmkd_atsc.models.algorithms import AdaptiveTeacherDistill, MultiTeacherDistill
from mmkd_atsc.models.binding import map_options
from mmkd_atsc.models.classifier import classifies_inside

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from analysis.families import (
    CLASSES,
    CONFIGS,
    EXCLUDED,
    NETWORKS,
    Network,
    small_cnn,
    small_transformer,
    unsorted_folders,
)

ROLES = {'aekt': 'AEKT', 'teacher': 'ATSC teacher', 'student': 'ATSC student'}
HEADER = """# Which classifier families of MMPretrain 1.2 teach and learn here

Written by `tools/analysis/compatibility.py`, which takes a step of each method with a small network of every family;
`tests/test_tools/test_compatibility.py` compares. A family is a folder of MMPretrain's configs that define an image
classifier. [TIMM.md](TIMM.md) is the same for timm's families.

- **AEKT**: as student and as teacher. LeViT and EfficientFormer learn with `distillation=False` in their heads, and
  teach with or without.
- **ATSC teacher**: its encoder adapts, its classifier is shared with the student. Heads with a distillation branch
  (DeiT, LeViT, EfficientFormer) give and learn the mean of their branches, their answer in inference.
- **ATSC student**: its backbone with `neck=FeatureProjector`, `head=SharedClassifierHead`, which find all they need in
  both networks. LeNet and VGG are students without their `num_classes`.
- **Gives**: the feature of its backbone. A student that gives a map learns from every teacher (for a teacher of
  vectors its map is averaged); one that gives vectors or tokens learns from teachers of vectors. Where an option of
  the backbone makes a map of it, that option stands here, and was tried with a teacher of maps.
- **Idle**: the roles in which some of its parameters get no gradient. Distributed training then needs
  `find_unused_parameters=True`.
"""


class Outcome(NamedTuple):
    """A row of the table; the three roles hold '' where they are supported, else the reason."""

    family: str
    aekt: str
    teacher: str
    student: str
    gives: str
    idle: str


class Refused(Exception):
    """A network cannot have a role, for a reason of one line."""


def build(model: dict[str, Any]) -> BaseModel:
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(copy.deepcopy(model))


def feature_of(encoder: nn.Module, network: Network) -> Any:
    """The tuple of features that an encoder gives in inference."""
    encoder.eval()
    with torch.no_grad():
        return encoder(torch.randn(2, network.colours, network.image_size, network.image_size))


def small_model(network: Network) -> dict[str, Any]:
    """The model of a config, with ten classes and the small backbone."""
    model = Config.fromfile(CONFIGS / f'{network.config}.py').model.to_dict()
    model.pop('train_cfg', None)  # mixup and CutMix are the data's affair
    for part in (model, model['backbone'], model['head']):
        part.pop('init_cfg', None)  # may name a checkpoint
    model['backbone'].update(network.backbone)
    neck, head = model.get('neck'), model['head']
    if head['type'] == 'ClsHead':  # the backbone classifies
        return model
    head['num_classes'] = CLASSES
    if 'num_classes' in head.get('loss', {}):
        head['loss']['num_classes'] = CLASSES
    if isinstance(neck, list):
        maps = feature_of(build(dict(model, neck=None, head=None)), network)
        neck[0]['in_channels'] = [feature.shape[1] for feature in maps]
    feature = feature_of(build(dict(model, head=None)), network)[-1]
    channels = feature.shape[1] if isinstance(feature, Tensor) else [part.shape[1] for part in feature]
    head['in_channels'] = channels[0] if head['type'] == 'DeiTClsHead' else channels
    return model


def made(make: Callable[[], BaseModel]) -> BaseModel:
    """Builds a model; an error of one line is a refusal."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        if '\n' in str(error):
            raise
        raise Refused(str(error)) from error


def step(algorithm: BaseModel, network: Network) -> set[str]:
    """Takes an optimizer step; returns the names of the parameters without a gradient."""
    size = network.image_size
    images = torch.randn(2, network.colours, size, size, generator=torch.Generator().manual_seed(0))
    samples = [DataSample().set_gt_label(label) for label in (3, 7)]
    algorithm.train()
    total, _ = algorithm.parse_losses(algorithm(images, samples, mode='loss'))
    total.backward()
    trainable = {name: parameter for name, parameter in algorithm.named_parameters() if parameter.requires_grad}
    build_optim_wrapper(algorithm, dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor', optimizer=dict(
        type='SGD', lr=1e-3))).optimizer.step()
    if not total.isfinite() or not all(parameter.isfinite().all() for parameter in trainable.values()):
        raise FloatingPointError(f'{network.config}: the step is not finite, its loss is {total.item()}')
    check_learning(trainable, network)
    algorithm.eval()
    with torch.no_grad():
        logits = algorithm.student(images)
    if logits.shape != (2, CLASSES):
        raise ValueError(f'{network.config}: the student gives {tuple(logits.shape)}')
    return {name for name, parameter in trainable.items() if parameter.grad is None}


def check_learning(trainable: dict[str, nn.Parameter], network: Network) -> None:
    """Fails if a trained encoder or classifier gets no gradient, or one of zeros."""
    parts = {name.partition('backbone.')[0] + 'backbone' if 'backbone.' in name else name.partition('head.')[0] + 'head'
             for name in trainable if 'backbone.' in name or 'head.' in name}
    for part in parts:
        grads = [parameter.grad for name, parameter in trainable.items() if name.startswith(part)]
        if not any(grad is not None and grad.any() for grad in grads):
            raise ValueError(f'{network.config}: {part} learns nothing')


def aekt_step(model: dict[str, Any], network: Network) -> set[str]:
    """The network as the student of itself, without a distillation branch that MMPretrain does not train."""
    student = copy.deepcopy(model)
    if student['head']['type'] in ('LeViTClsHead', 'EfficientFormerClsHead'):
        student['head']['distillation'] = False
    return step(made(lambda: MultiTeacherDistill(
        build(student), build(model), dict(type='mmkd_atsc.AEKTDistiller'), allow_random_teacher=True)), network)


def atsc_step(student: dict[str, Any], teacher: dict[str, Any], network: Network) -> set[str]:
    """The backbone of one with the classifier of the other."""

    shared = dict(student, neck=dict(type='mmkd_atsc.FeatureProjector', image_size=network.image_size),
                  head=dict(type='mmkd_atsc.SharedClassifierHead'))
    return step(made(lambda: AdaptiveTeacherDistill(
        build(shared), build(teacher), allow_random_teacher=True)), network)


def measure(name: str) -> Outcome:
    """The row of a network."""
    network, reasons, idle = NETWORKS[name], {}, []
    torch.manual_seed(0)
    model = small_model(network)
    student = copy.deepcopy(model)
    if student['backbone']['type'] in ('LeNet5', 'VGG'):
        student['backbone'].pop('num_classes')  # without it the backbone gives its feature
    backbone = build(student).backbone
    gives = 'logits' if classifies_inside(backbone) else kind(feature_of(backbone, network)[-1])
    cnn, transformer = small_cnn(network), small_transformer(network)
    for role, run in (('aekt', lambda: aekt_step(model, network)),
                      ('teacher', lambda: atsc_step(cnn, model, network)),
                      ('student', lambda: atsc_step(student, cnn if gives == 'map' else transformer, network))):
        try:
            reasons[role] = ''
            if run():
                idle.append(ROLES[role])
        except Refused as error:
            reasons[role] = str(error)
    options = map_options(backbone) if gives != 'map' else {}
    if options:
        atsc_step(dict(student, backbone=dict(student['backbone'], **options)), cnn, network)
        gives += ''.join(f'; map with `{key}={value!r}`' for key, value in options.items())
    return Outcome(name, gives=gives, idle=', '.join(idle), **reasons)


def kind(feature: Any) -> str:
    """The kind of a feature, in a word."""
    if not isinstance(feature, Tensor):
        return f'{len(feature)} vectors'
    return {2: 'vector', 3: 'tokens', 4: 'map'}[feature.dim()]


def table(outcomes: Iterable[Outcome]) -> str:
    """The whole file."""
    outcomes = list(outcomes)
    lines = [HEADER, '| Family | AEKT | ATSC teacher | ATSC student | Gives | Idle |', '|---|---|---|---|---|---|']
    lines += [row(outcome) for outcome in outcomes]
    lines += summary(outcomes, ROLES)
    lines += ['', '## Folders that are no family of classifiers', '']
    lines += [f'- {reason}: {", ".join(folders)}' for reason, folders in EXCLUDED.items()]
    return '\n'.join(lines) + '\n'


def row(outcome: Outcome) -> str:
    """A line of the table."""
    return f'| {" | ".join([outcome.family, *answers(outcome, ROLES), outcome.gives, outcome.idle])} |'


def outcomes_of(names: Iterable[str]) -> Iterable[Outcome]:
    """The rows of some networks."""
    return measured(names, measure, NETWORKS)


def answers(outcome: Any, roles: Iterable[str]) -> list[str]:
    """Of a row the cells that say whether each role is supported."""
    return ['no' if getattr(outcome, role) else 'yes' for role in roles]


def summary(outcomes: Collection[Any], roles: dict[str, str]) -> list[str]:
    """The lines below a table: how many networks have each role, and why the others have not."""
    counts = ', '.join(f'{label} {sum(not getattr(outcome, role) for outcome in outcomes)}'
                       for role, label in roles.items())
    return ['', f'Supported, of {len(outcomes)}: {counts}.', '', '## Reasons', '', *(
        f'- {outcome.family}, {label}: {getattr(outcome, role)}.' for outcome in outcomes
        for role, label in roles.items() if getattr(outcome, role))]


def measured(names: Iterable[str], measure: Callable[[str], Any], networks: Mapping[str, Any]) -> Iterator[Any]:
    """The row of each network; an error says which one is neither supported nor refused."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # about options and heads
        for name in names:
            try:
                yield measure(name)
            except Exception as error:
                raise RuntimeError(f'{name} ({networks[name].config}) is neither supported nor refused') from error


def write_page(argv: list[str] | None, description: str | None, problem: str, text: Callable[[], str],
               log_level: str) -> None:
    """A tool's ``main``: writes the table, unless there is a problem with the families."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, metavar='FILE', help='the table, in Markdown')
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        if problem:
            raise ValueError(problem)
        if not args.out.parent.is_dir():
            raise FileNotFoundError(f'--out {args.out}: there is no folder {args.out.parent}')
    MMLogger.get_instance('compatibility', log_level=log_level)
    args.out.write_text(text())
    print(args.out)


def main(argv: list[str] | None = None) -> None:
    unsorted = ', '.join(unsorted_folders())
    write_page(argv, __doc__, unsorted and f'families.py does not sort these folders of configs: {unsorted}',
               lambda: table(outcomes_of(NETWORKS)), log_level='WARNING')  # a line a teacher otherwise


if __name__ == '__main__':
    main()
