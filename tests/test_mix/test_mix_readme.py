"""The page does what it says: the lines that it shows train, and keep what the stock config has."""
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from tests.conftest import ROOT, tiny_classifier

from .training import train, write_child

PAGE = (ROOT / 'configs' / 'mix' / 'README.md').read_text()
AEKT, ATSC, TIMM, SETTINGS, TEACHER_RATE = re.findall(r'^```python\n(.*?)^```', PAGE, flags=re.M | re.S)
LINES = AEKT.splitlines(keepends=True)
RECIPES = {  # ATSC's lines in the place of AEKT's
    'aekt': (AEKT, {'distill.loss_aekt', 'student.loss'}),
    'atsc': (LINES[0] + ATSC + ''.join(LINES[-4:]), {'distill.loss_align', 'distill.loss_anchor', 'teacher.loss'})}
STUDENT = """
default_scope = 'mmpretrain'
model = {model!r}
data_preprocessor = dict(num_classes=10, mean=[127.5] * 3, std=[127.5] * 3)
train_dataloader = val_dataloader = dict(dataset=dict(type='CIFAR10', pipeline=[dict(type='PackInputs')]))
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='Accuracy')
optim_wrapper = dict(optimizer=dict(type='Lamb', lr=0.01))
train_cfg = dict(by_epoch=True, max_epochs=3, val_interval=1)
val_cfg = test_cfg = dict()
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=2, max_keep_ckpts=1, save_best='auto'))
custom_hooks = [dict(type='EMAHook', momentum=0.1)]
"""


@pytest.mark.parametrize('method', RECIPES)
def test_the_lines_make_a_stock_config_a_distillation_that_keeps_its_hooks(method, tmp_path, monkeypatch, in_process):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'my_student.py').write_text(STUDENT.format(model=tiny_classifier(4)))
    (tmp_path / 'my_teacher.py').write_text(STUDENT.format(model=tiny_classifier(8)))
    torch.save(MODELS.build(tiny_classifier(8)).state_dict(), 'my_teacher.pth')
    recipe, terms = RECIPES[method]
    (tmp_path / 'mine.py').write_text(recipe)
    child = write_child(tmp_path / 'child.py', tmp_path / 'mine.py', 32, 10, 'train_cfg.update(max_epochs=3)')
    log = train(child, tmp_path / 'work')
    assert terms | {'student/accuracy/top1'} <= log.keys()
    saved = [path.name for path in sorted((tmp_path / 'work').glob('*.pth'))]
    assert saved[1:] == ['epoch_3.pth'] and saved[0].startswith('best_student_accuracy_top1_')  # its own options
    checkpoint = torch.load(tmp_path / 'work' / 'epoch_3.pth', weights_only=True)
    assert checkpoint['state_dict']['teachers.teacher.fingerprint'].any()  # my_teacher.pth was read
    assert 'ema_state_dict' in checkpoint
    assert len({group['lr'] for group in checkpoint['optimizer']['param_groups']}) == 2  # the layer's, the teacher's
    hooks = Config.fromfile('mine.py').custom_hooks, Config.fromfile('mine.py').default_hooks
    assert len(hooks[0]) == 2 and hooks[1].checkpoint.type == 'mmkd_atsc.AtomicCheckpointHook'


@pytest.mark.parametrize('text, rates', [  # the embedding's, twelve layers', the head's, AEKT's layer's; two
    pytest.param(SETTINGS, 1 + 12 + 1 + 1, id='settings'), pytest.param(TEACHER_RATE, 2, id='teacher rate')])
def test_each_config_trains(text, rates, tmp_path, in_process):
    (tmp_path / 'mine.py').write_text(text)
    child = write_child(tmp_path / 'child.py', tmp_path / 'mine.py', 64, 1000,
                        'model = dict(teacher=dict(pretrained=False), allow_random_teacher=True)')
    assert 'student/accuracy/top1' in train(child, tmp_path / 'work')
    checkpoint = torch.load(tmp_path / 'work' / 'epoch_1.pth', weights_only=True)
    assert len({group['lr'] for group in checkpoint['optimizer']['param_groups']}) == rates
    assert ('ema_state_dict' in checkpoint) == ('EMAHook' in text)


def test_timms_network_teaches(tmp_path, monkeypatch):
    timm = pytest.importorskip('timm')
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine.py').write_text(TIMM)
    torch.save(timm.create_model('resnet10t').state_dict(), 'resnet10t.pth')  # for the hub's
    config = Config.fromfile('mine.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(config.model, teacher_ckpt='resnet10t.pth',
                                  data_preprocessor=config.data_preprocessor))
    assert config.model.teacher.pretrained and model.first_teacher.fingerprint.any()
    assert model.first_teacher.renormalize.scale.sub(1).abs().max() < 1e-3  # both are ImageNet's, rounded otherwise
    assert model.first_teacher.predict(torch.zeros(1, 3, 64, 64), None)[0].pred_score.shape == (1000, )
