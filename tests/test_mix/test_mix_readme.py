"""The page does what it says: the lines that it shows train."""
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from tests.conftest import ROOT, tiny_classifier

from .training import train, write_child

PAGE = (ROOT / 'configs' / 'mix' / 'README.md').read_text()
AEKT, ATSC, RECIPE, TIMM_WEIGHTS, *CONFIGS = re.findall(r'^```python\n(.*?)^```', PAGE, flags=re.M | re.S)
STUDENT = """
default_scope = 'mmpretrain'
model = {model!r}
data_preprocessor = dict(num_classes=10, mean=[127.5] * 3, std=[127.5] * 3)
train_dataloader = val_dataloader = dict(dataset=dict(type='CIFAR10', pipeline=[dict(type='PackInputs')]))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='Accuracy')
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = test_cfg = dict()
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1))
"""


@pytest.mark.parametrize('lines, terms', [
    (AEKT, {'distill.loss_aekt', 'student.loss'}),
    (ATSC, {'distill.loss_align', 'distill.loss_anchor', 'teacher.loss'})])
def test_the_lines_make_a_stock_config_a_distillation(lines, terms, tmp_path, monkeypatch, in_process):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my_student.py').write_text(STUDENT.format(model=tiny_classifier(4)))
    (tmp_path / 'my_teacher.py').write_text(STUDENT.format(model=tiny_classifier(8)))
    teacher = MODELS.build(tiny_classifier(8))
    torch.save(teacher.state_dict(), 'my_teacher.pth')
    (tmp_path / 'mine.py').write_text(lines)
    log = train(write_child(tmp_path / 'child.py', tmp_path / 'mine.py', 32, 10), tmp_path / 'work')
    assert terms | {'student/accuracy/top1'} <= log.keys()
    saved = torch.load(tmp_path / 'work' / 'epoch_1.pth', weights_only=True)
    assert saved['state_dict']['teachers.teacher.fingerprint'].any()  # my_teacher.pth was read
    if lines == AEKT:  # the layer has its own rate
        assert len({group['lr'] for group in saved['optimizer']['param_groups']}) == 2


def test_the_recipe_is_that_of_the_configs(tmp_path, monkeypatch):
    def plain(value):
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items() if key != '_scope_'}
        return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text(RECIPE)
    theirs = Config.fromfile(ROOT / 'configs' / 'mix' / 'aekt_resnet34_resnet18_imagenet.py').to_dict()
    assert plain(Config.fromfile('mine.py').to_dict()) == plain(theirs)


def test_there_are_these_configs_of_ones_own():
    assert ['timm' in text.lower() for text in CONFIGS] == [True, False, False]


@pytest.mark.parametrize('number', [1, 2])
def test_each_config_trains(number, tmp_path, in_process):
    text = CONFIGS[number]
    mine = tmp_path / 'mine.py'
    mine.write_text(text)
    child = write_child(tmp_path / f'child{number}.py', mine, 64, 1000,
                        'model = dict(teacher=dict(pretrained=False), allow_random_teacher=True)')
    assert 'student/accuracy/top1' in train(child, tmp_path / 'work')
    checkpoint = torch.load(tmp_path / 'work' / 'epoch_1.pth', weights_only=True)
    rates = {group['lr'] for group in checkpoint['optimizer']['param_groups']}
    assert ('ema_state_dict' in checkpoint) == (number == 1)
    # The embedding's, twelve layers', the head's and AEKT's layer's; or the teacher's and all others'.
    assert len(rates) == (1 + 12 + 1 + 1 if number == 1 else 2)


def test_timms_network_teaches(tmp_path, monkeypatch):
    pytest.importorskip('timm')
    monkeypatch.chdir(tmp_path)
    exec(TIMM_WEIGHTS.replace('pretrained=True', 'pretrained=False'), {})
    (tmp_path / 'mine.py').write_text(CONFIGS[0])
    config = Config.fromfile('mine.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(config.model, data_preprocessor=config.data_preprocessor))
    assert model.first_teacher.fingerprint.any() and model.first_teacher.renormalize.identity
    assert model.first_teacher(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
