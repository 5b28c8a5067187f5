"""Shipped configs with one mistake each: they train, or say in one line what is wrong; no key is passed over.

    MMKD_MUTANTS=500 python -m pytest tests/test_fuzz_configs.py

Each mutant goes through ``tools/train.py``, in a process of its own, until its first step would begin.
"""
import copy
import os
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies
from mmengine.config import Config

from mmkd_atsc.errors.messages import dicts_of
from tests.conftest import ROOT
from tests.faults.trainings import REACHED_FIRST_STEP, Life, stop_before_the_first_step, write_cifar

VALUES = [None, -1, 0, 1.5, float('nan'), float('inf'), 1e30, True, '', 'nonsense', [], {}, ['a'], dict(type='Nothing')]
# Names in these are the user's own.
FREE = ('default_hooks', 'teacher', 'projectors', 'teacher_ckpt')
SETTINGS = ('default_scope', 'model', 'data_preprocessor', 'train_dataloader', 'val_dataloader', 'val_evaluator',
            'optim_wrapper', 'param_scheduler', 'train_cfg', 'val_cfg', 'custom_hooks', 'default_hooks', 'randomness',
            'auto_scale_lr', 'env_cfg', 'log_processor', 'visualizer')
# All that train, but for those on ImageNet, whose data nobody has at hand, and the slowest to build.
SHIPPED = [path for path in sorted((ROOT / 'configs').rglob('*.py')) if '_base_' not in path.parts
           and not any(word in path.name for word in ('imagenet', '110', '116', 'vgg19'))]


def prepared(path: Path, folder: Path) -> dict:
    """A config as plain values: on a few random images, and teachers without checkpoints."""
    config = Config.fromfile(path).to_dict()
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        if 'data_root' in config[name]['dataset']:
            config[name]['dataset']['data_root'] = str(folder)
    if 'teacher' in config['model']:
        config['model'].pop('teacher_ckpt', None)
        config['model']['allow_random_teacher'] = True
    return {key: value for key, value in config.items() if key in SETTINGS}


def misspelled(word: str, chance: random.Random) -> str:
    place = chance.randrange(len(word))
    return chance.choice([word[:place] + word[place + 1:], word[:place] + word[place] + word[place:], f'{word}s'])


def mutate(config: dict, chance: random.Random) -> tuple[str, bool]:
    """One mistake in ``config``; returns what it is, and whether only a refusal will do."""
    where, target = chance.choice([(path, target) for path, target in dicts_of(config) if target])
    key = chance.choice(list(target))
    kind = chance.choice(['typo', 'typo', 'unknown', 'value', 'value', 'value', 'type', 'delete'])
    free = not where or where.rpartition('.')[2] in FREE
    if kind == 'typo' and not free:
        wrong = misspelled(key, chance)
        if wrong and wrong not in target:
            target[wrong] = target.pop(key)
            return f'{where}: {key} is called {wrong}', True
    if kind == 'unknown' and not free:
        target['unknown_key'] = 1
        return f'{where}: has an unknown_key', True
    if kind == 'type' and isinstance(target.get('type'), str):
        target['type'] = misspelled(target['type'], chance)
        return f'{where}: type={target["type"]!r}', True
    if kind == 'delete':
        del target[key]
        return f'{where}: {key} is left out', False
    target[key] = copy.deepcopy(chance.choice(VALUES))
    return f'{where}: {key}={target[key]!r}', False


def attempt(config: dict, folder: Path) -> tuple[int, str]:
    """The exit code, and what was said."""
    path = folder / 'mutant.py'
    path.write_text('from math import inf, nan\n' + ''.join(f'{key} = {value!r}\n' for key, value in config.items()))
    life = Life(path, folder / 'w', prepare=stop_before_the_first_step)
    code, = life.wait(60)
    text = life.log.read_text()
    life.log.unlink()
    return code, text


def fault(code: int, text: str, must_refuse: bool) -> str | None:
    """What is wrong with the answer to a mutant; None if nothing is."""
    lines = [line for line in text.splitlines() if line.startswith('error')]
    if 'Traceback' in text:
        return 'traceback: ' + text.splitlines()[-1]
    if code == 2 and len(lines) == 1 and len(lines[0]) > len('error: '):
        return None
    if code in (0, REACHED_FIRST_STEP):
        return 'passed over' if must_refuse else None
    return f'exit code {code}, {len(lines)} error line(s)'


def test_without_a_mistake_a_config_begins_to_train(tmp_path):
    assert attempt(prepared(ROOT / 'configs/demo/atsc_digits.py', tmp_path), tmp_path)[0] == REACHED_FIRST_STEP


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('fuzz')
    write_cifar(folder)
    return folder


@settings(max_examples=int(os.environ.get('MMKD_MUTANTS', 25)), deadline=None, derandomize=True, database=None,
          suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(chance=strategies.randoms(use_true_random=True))
def test_a_mistake_is_answered_in_one_line(folder, chance):
    path = chance.choice(SHIPPED)
    config = prepared(path, folder)
    what, must_refuse = mutate(config, chance)
    code, text = attempt(config, folder)
    assert not fault(code, text, must_refuse), f'{path.parent.name}/{path.name}: {what} -> {code}\n{text[-500:]}'
