"""What the tests share: the tools as a user runs them, and networks of a few parameters."""
import copy
import functools
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

# All tests but those in tests/gpu run on the CPU. The variable must be set before anything asks for a GPU; it holds for
# this process, for pytest's workers and for the processes that tests start.
if os.environ.get('MMKD_TEST_DEVICE') != 'cuda':
    os.environ['CUDA_VISIBLE_DEVICES'] = ''

import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner, set_random_seed
from mmengine.visualization import Visualizer

import mmkd_atsc  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(1)

needs_cifar100 = pytest.mark.skipif(
    not Path(os.environ.get('MMKD_DATA_ROOT', ''), 'cifar-100-python', 'train').is_file(),
    reason='MMKD_DATA_ROOT names no folder with cifar-100-python')

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason='no GPU, or none that tests may use: MMKD_TEST_DEVICE=cuda pytest tests/gpu')


@pytest.fixture(autouse=True)
def random_numbers_of_their_own():
    """A test draws the same numbers whatever ran before it."""
    set_random_seed(0)


@pytest.fixture(autouse=True)
def runs_of_their_own(monkeypatch):
    """No run finds another's logger, scope, hub or visualizer, which MMEngine keeps by the second a run begins in."""
    kinds = (DefaultScope, MessageHub, MMLogger, Visualizer)
    for kind in kinds:
        monkeypatch.setattr(kind, '_instance_dict', copy.copy(kind._instance_dict))
    build = Runner.__init__

    @functools.wraps(build)
    def build_alone(self, *args, **kwargs):
        for kind in kinds:
            kind._instance_dict.clear()
        build(self, *args, **kwargs)

    monkeypatch.setattr(Runner, '__init__', build_alone)


@pytest.fixture
def in_process(monkeypatch):
    """A training in the test's own process does not list the software or format its config, which take seconds."""
    monkeypatch.setattr(Runner, '_log_env', lambda *args: None)
    monkeypatch.setattr(Config, 'pretty_text', property(lambda self: ''.join(
        f'{name} = {value!r}\n' for name, value in self.to_dict().items())))


def run_command(*command, cwd=ROOT, timeout=300, **environment):
    """Runs a command; returns the finished process with its output as text."""
    env = dict(os.environ, OMP_NUM_THREADS='1', PYTHON=sys.executable, **environment)
    return subprocess.run([str(word) for word in command], cwd=cwd, env=env, timeout=timeout, text=True,
                          capture_output=True)


def run_tool(tool, *args, **kwargs):
    return run_command(sys.executable, ROOT / 'tools' / tool, *args, **kwargs)


def tool(name):
    """A tool's names, its ``main`` among them, loaded into this process."""
    path, before = ROOT / 'tools' / name, sys.path[:]
    sys.path.insert(0, str(path.parent))  # as Python does for a script: it finds the modules beside it
    try:
        return runpy.run_path(str(path))
    finally:
        sys.path[:] = before


def run_here(name, *args):
    """Runs a tool's ``main`` in this process."""
    tool(name)['main']([str(arg) for arg in args])


def refusal(capsys, name, *args):
    """The ``error:`` line with which a tool, run in this process, ends; stderr has nothing else."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run_here(name, *args)
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.startswith('error: ') and said.count('\n') == 1, said
    return said


def page_files(text):
    """The files that a page writes, by name: each is named at the begin of the paragraph before its block."""
    return dict(re.findall(r'^`([\w/]+\.py)`[^\n]*\n\n```python\n(.*?)^```', text, flags=re.M | re.S))


def page_commands(text):
    """The lines of a page's bash blocks, as words."""
    blocks = re.findall(r'^```bash\n(.*?)^```', text, flags=re.M | re.S)
    return [shlex.split(line, comments=True) for block in blocks for line in block.replace('\\\n', ' ').splitlines()]


def scalars(work_dir):
    """The lines of a run's JSON logs, in order."""
    return [json.loads(line) for file in sorted(work_dir.glob('*/vis_data/scalars.json')) for line in file.open()]


def weights(path):
    """The state dict of a checkpoint."""
    return torch.load(path, weights_only=True)['state_dict']


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    assert [key for key, value in one.items() if not torch.equal(value, other[key])] == []


def assert_one_line_error(process, *words):
    """The command failed, said so in one ``error:`` line without a traceback, and the line holds the words."""
    lines = [line for line in process.stderr.splitlines() if line.startswith('error')]
    assert process.returncode != 0, process.stdout
    assert 'Traceback' not in process.stderr, process.stderr
    assert len(lines) == 1, process.stderr
    for word in words:
        assert word in lines[0], lines[0]


def tiny_classifier(channels=4, num_classes=10, depth=8, **extra):
    """A CIFAR ResNet-8 of a few thousand parameters, as a config."""
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmkd_atsc.CIFARResNet', depth=depth, widths=(channels, channels, channels, 2 * channels)),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=num_classes, in_channels=2 * channels,
                  loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)), **extra)


@pytest.fixture
def teacher_checkpoint(tmp_path):
    """A checkpoint with the weights of ``tiny_classifier(8)``."""
    from mmengine.registry import MODELS
    torch.manual_seed(1)
    model = MODELS.build(tiny_classifier(8))
    path = tmp_path / 'teacher.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return str(path)


@pytest.fixture
def batch():
    """Four random images and their data samples."""
    from mmpretrain.structures import DataSample
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 3, 32, 32, generator=generator)
    return images, [DataSample().set_gt_label(label) for label in (0, 3, 9, 1)]


TINY_TRAINING = """
_base_ = ['mmkd_atsc::_base_/distill.py']
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(type='mmkd_atsc.CIFARResNet', depth=8, widths=(4, 4, 4, 8)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=10, in_channels=8, loss=dict(type='CrossEntropyLoss')))
data_preprocessor = dict(num_classes=10, mean=[127.5] * 3, std=[127.5] * 3)
train_dataloader = dict(
    batch_size=25, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='mmkd_atsc.Digits', train_images=100, pipeline=[dict(type='PackInputs')]))
test_dataloader = val_dataloader = dict(
    batch_size=500, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type='mmkd_atsc.Digits', split='test', train_images=1600, pipeline=[dict(type='PackInputs')]))
test_evaluator = val_evaluator = dict(type='Accuracy', topk=(1,))
optim_wrapper = dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor', optimizer=dict(type='SGD', lr=0.05))
param_scheduler = dict(type='MultiStepLR', milestones=[1])
auto_scale_lr = dict(base_batch_size=25)
train_cfg = dict(type='mmkd_atsc.ResumableEpochLoop', max_epochs=2)
val_cfg = test_cfg = dict()
default_hooks = dict(_base_.distill.default_hooks, logger=dict(type='LoggerHook', interval=2))
randomness = dict(seed=0)
"""


@pytest.fixture
def tiny_config(tmp_path):
    """A config file outside the repository that trains in a second or two."""
    path = tmp_path / 'tiny.py'
    path.write_text(TINY_TRAINING)
    return path
