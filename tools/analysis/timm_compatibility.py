"""Tests which families of timm teach and learn: a step of AEKT and ATSC in each role with its smallest network.

python tools/analysis/timm_compatibility.py --out configs/mix/TIMM.md

The partner is a small CNN. A role is supported, or refused in one line before the step; anything else ends this tool.
"""
import gc
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from mmengine.model import BaseModel
from timm.models import _registry as timm_registry

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from analysis.compatibility import Refused, answers, build, made, measured, step, summary, write_page
from analysis.families import CLASSES, small_cnn
from analysis.timm_families import NETWORKS, TimmNetwork
from mmkd_atsc.models.algorithms import AdaptiveTeacherDistill, MultiTeacherDistill

ROLES = dict(aekt_teacher='AEKT teacher', aekt_student='AEKT student', teacher='ATSC teacher', student='ATSC student')
HEADER = """# Which families of timm teach and learn here

Written by `tools/analysis/timm_compatibility.py`, which takes a step of each method in each role with the smallest
network of every family of timm {version}; `tests/test_tools/test_compatibility.py` compares. A family is a module
of `timm.models`. [COMPATIBILITY.md](COMPATIBILITY.md) is the same for MMPretrain's families, and
[the page on mixing](README.md#teachers) shows the configs.

- **AEKT teacher**, **AEKT student**: `TimmClassifier`.
- **ATSC teacher**: `TimmClassifier`, whose last linear layer is the classifier that the student shares. **Teaches**
  says what its encoder gives: a map, where that layer reads the map's mean, else the vector that it reads.
- **ATSC student**: the backbone `{backbone}`, which gives a map.
  **Needs** is an option that it needs too.
- **Idle**: the roles in which some of its parameters get no gradient. Distributed training then needs
  `find_unused_parameters=True`.
"""
BACKBONE: dict[str, Any] = dict(type='TIMMBackbone', features_only=True, out_indices=[-1])
OPTION = dict(feature_cls='getter')


class Outcome(NamedTuple):
    """A row of the table; the roles hold '' where they are supported, else the reason."""

    family: str
    network: str
    aekt_teacher: str
    aekt_student: str
    teacher: str
    student: str
    teaches: str
    needs: str
    idle: str


def missing_families() -> list[str]:
    """The families of the installed timm of which no network is written down."""
    return sorted(set(timm_registry.list_modules()) - set(NETWORKS))


def whole(network: TimmNetwork) -> BaseModel:
    """The classifier, whose norms differ from those of a fresh one: no layer may be the identity by chance."""
    model = build(dict(type='TimmClassifier', model_name=network.config, num_classes=CLASSES, **network.options))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.dim() == 1 and value.is_floating_point():
                value.add_(torch.rand(value.shape, generator=generator) / 5)
    return model


def initialized(model: BaseModel) -> BaseModel:
    """As a runner begins."""
    model.init_weights()
    return model


def aekt_step(student: BaseModel, teacher: BaseModel, network: TimmNetwork) -> set[str]:
    return step(made(lambda: initialized(MultiTeacherDistill(
        student, teacher, dict(type='mmkd_atsc.AEKTDistiller'), allow_random_teacher=True))), network)


def atsc_step(backbone: dict[str, Any], teacher: BaseModel, network: TimmNetwork) -> tuple[set[str], str]:
    """The idle parameters, and what the teacher's encoder gives."""
    student = dict(type='ImageClassifier', backbone=backbone, head=dict(type='mmkd_atsc.SharedClassifierHead'),
                   neck=dict(type='mmkd_atsc.FeatureProjector', image_size=network.image_size))
    model = made(lambda: initialized(AdaptiveTeacherDistill(build(student), teacher, allow_random_teacher=True)))
    return step(model, network), 'map' if model.student.neck.spatial else 'vector'


def measure(family: str) -> Outcome:
    """The row of a family."""
    gc.collect()  # the networks of the family before
    network, reasons, idle, teaches, needs = NETWORKS[family], {}, [], '', ''
    torch.manual_seed(0)
    cnn = small_cnn(network)
    backbone = dict(BACKBONE, model_name=network.config, **network.options)
    runs: dict[str, Callable[[], Any]] = dict(
        aekt_teacher=lambda: aekt_step(build(cnn), whole(network), network),
        aekt_student=lambda: aekt_step(whole(network), build(cnn), network),
        teacher=lambda: atsc_step(cnn['backbone'], whole(network), network),
        student=lambda: atsc_step(backbone, build(cnn), network)[0])
    runs['with option'] = lambda: atsc_step(dict(backbone, **OPTION), build(cnn), network)[0]
    for role, run in runs.items():
        if role == 'with option' and not reasons['student']:
            continue
        try:
            unused = run()
        except Refused as error:
            reasons.setdefault(role, str(error))
            continue
        if role == 'with option':
            role, needs = 'student', ''.join(f'`{key}={value!r}`' for key, value in OPTION.items())
        if role == 'teacher':
            unused, teaches = unused
        reasons[role] = ''
        if unused:
            idle.append(ROLES[role])
    return Outcome(family, network.config, **{role: reasons[role] for role in ROLES}, teaches=teaches, needs=needs,
                   idle=', '.join(idle))


def table(outcomes: Iterable[Outcome]) -> str:
    """The whole file."""
    outcomes = list(outcomes)
    columns = ['Family', 'Network', *ROLES.values(), 'Teaches', 'Needs', 'Idle']
    options = ', '.join(f'{key}={value!r}' for key, value in dict(BACKBONE, model_name='...').items())
    lines = [HEADER.format(version=timm.__version__, backbone=f'dict({options})'),
             f'| {" | ".join(columns)} |', '|---' * len(columns) + '|', *map(row, outcomes)]
    lines += summary(outcomes, ROLES)
    return '\n'.join(lines) + '\n'


def row(outcome: Outcome) -> str:
    """A line of the table."""
    cells = [outcome.family, f'`{outcome.network}`', *answers(outcome, ROLES), outcome.teaches, outcome.needs,
             outcome.idle]
    return f'| {" | ".join(cells)} |'


def outcomes_of(families: Iterable[str]) -> Iterable[Outcome]:
    """The rows of some families."""
    gc.freeze()  # what is there now need not be looked at each time that a network's cycles are freed
    return measured(families, measure, NETWORKS)


def main(argv: list[str] | None = None) -> None:
    missing = ', '.join(missing_families())
    write_page(argv, __doc__, missing and f'timm_families.py has no network of {missing}',
               lambda: table(outcomes_of(NETWORKS)), log_level='ERROR')  # MMEngine lists each initialised parameter


if __name__ == '__main__':
    main()
