"""tools/distill.py as a user runs it, in a folder of theirs."""
import json
import runpy

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from tests.conftest import ROOT, run_tool, tiny_classifier

ZOO = 'mmpretrain::resnet/resnet34_8xb16_cifar10.py'
NEW_STYLE = """
from mmengine.config import read_base
from mmengine.optim import OptimWrapper
from mmpretrain.datasets import CIFAR10, PackInputs
from mmpretrain.models import GlobalAveragePooling, ImageClassifier, LinearClsHead
from torch.optim import SGD

from mmkd_atsc.models.backbones import CIFARResNet

with read_base():
    from .runtime import *

model = dict(
    type=ImageClassifier, backbone=dict(type=CIFARResNet, depth=8, widths=(4, 4, 4, 8)),
    neck=dict(type=GlobalAveragePooling), head=dict(type=LinearClsHead, num_classes=10, in_channels=8))
train_dataloader = dict(batch_size=2, dataset=dict(type=CIFAR10, pipeline=[dict(type=PackInputs)]))
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(type=OptimWrapper, optimizer=dict(type=SGD, lr=0.1))
"""


def distill(*args):
    """The tool in this process."""
    runpy.run_path(str(ROOT / 'tools' / 'distill.py'))['main']([str(arg) for arg in args])


@pytest.mark.parametrize('method', ['aekt', 'atsc'])
def test_a_config_becomes_a_distillation_that_trains(method, tiny_config, teacher_checkpoint, tmp_path):
    """One command, from the folder of a project that knows nothing of the repository."""
    done = run_tool('distill.py', tiny_config.name, '--teacher', repr(tiny_classifier(8)), '--teacher-ckpt',
                    teacher_checkpoint, '--method', method, '--out', 'distil/mine.py', '--train', '--work-dir', 'work',
                    '--cfg-options', 'train_cfg.max_epochs=1', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'wrote distil/mine.py' in done.stdout
    scores = [json.loads(line) for file in (tmp_path / 'work').glob('*/vis_data/scalars.json') for line in file.open()]
    assert any('student/accuracy/top1' in line for line in scores)
    assert any(f'distill.loss_{"aekt" if method == "aekt" else "align"}' in line for line in scores)
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()


def test_without_a_file_the_config_is_printed(tiny_config, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    distill(tiny_config.name, '--teacher', ZOO, '--teacher', repr(tiny_classifier(8)), '--teacher-ckpt', 'zoo',
            '--teacher-ckpt', 'b.pth', '--method', 'aekt')
    (tmp_path / 'printed.py').write_text(capsys.readouterr().out)
    model = Config.fromfile(tmp_path / 'printed.py').model
    assert model.teacher.resnet34.pretrained and model.teacher_ckpt == dict(resnet34=None, cifarresnet='b.pth')


def test_what_was_written_is_not_lost_unasked(tiny_config, tmp_path, capsys):
    out = tmp_path / 'mine.py'
    options = (tiny_config, '--teacher', ZOO, '--method', 'aekt', '--out', out)
    distill(*options)
    written = out.read_text()
    distill(*options)  # the same again is no loss
    out.write_text(written + '# mine\n')
    with pytest.raises(SystemExit):
        distill(*options)
    assert 'mine.py is there already and differs: --force writes over it' in capsys.readouterr().err
    assert out.read_text().endswith('# mine\n')
    distill(*options, '--force')
    assert out.read_text() == written


def test_a_config_of_the_new_style_is_inherited_through_a_flat_copy(tmp_path, capsys):
    (tmp_path / 'runtime.py').write_text("default_scope = 'mmpretrain'\n")
    (tmp_path / 'new.py').write_text(NEW_STYLE)
    options = (tmp_path / 'new.py', '--teacher', repr(tiny_classifier(8)), '--allow-random-teacher', '--method', 'atsc')
    distill(*options, '--out', tmp_path / 'distil.py')
    config = Config.fromfile(tmp_path / 'distil.py')
    assert config.train_cfg.max_epochs == 2 and config.train_dataloader.dataset.type == 'mmpretrain.CIFAR10'
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model)
    assert type(model.student.backbone).__name__ == 'CIFARResNet'
    with pytest.raises(SystemExit):
        distill(*options)
    assert 'new.py: is of the new style (read_base); --out is needed' in capsys.readouterr().err


@pytest.mark.parametrize('options, words', [
    (['--teacher', 'gone.py', '--teacher-ckpt', 'a.pth', '--method', 'aekt'], 'no such config: gone.py'),
    (['--teacher', ZOO, '--method', 'atcs'], "invalid choice: 'atcs'"),
    (['--method', 'atsc'], '--teacher'),
    (['--teacher', ZOO, '--teacher', ZOO, '--teacher-ckpt', 'a.pth', '--method', 'aekt'], 'is given 1 times for 2'),
    (['--teacher', ZOO, '--method', 'aekt', '--image-size', '-5'], 'image_size=-5 must be an integer at least 1'),
    (['--teacher', 'dict(type=print())', '--method', 'aekt'], 'is no dict of plain values'),
    (['--teacher', 'mmpretrain::resnet/resnet34_8xb32_in1k.py', '--method', 'atsc'], 'CONFIG 10, resnet34 1000'),
    (['--teacher', 'mmpretrain::resnet/gone.py', '--method', 'atsc'], 'no such config: mmpretrain::resnet/gone.py'),
])
def test_a_wrong_command_is_refused_in_one_line(options, words, tiny_config, capsys):
    with pytest.raises(SystemExit) as stopped:
        distill(tiny_config, *options)
    lines = capsys.readouterr().err.strip().splitlines()
    assert stopped.value.code == 2 and len(lines) == 1 and lines[0].startswith('error: ')
    assert words.replace('CONFIG', tiny_config.stem) in lines[0]
