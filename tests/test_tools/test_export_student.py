"""tools/export_student.py as a user runs it, and what it writes where the plugin is not installed."""
import json
import re
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config

from mmkd_atsc.export import ExportStudentHook
from tests.conftest import ROOT, refusal, run_command, run_here, scalars
from tests.test_export.trained import logits, method_config, pixels, train

# A ResNet-18 for small images, as thin as MMPretrain's own goes.
MMPRETRAINS_OWN = dict(type='mmpretrain.ResNet_CIFAR', depth=18, stem_channels=4, base_channels=2, expansion=None)

ELSEWHERE = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmkd_atsc', 'mmrazor'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Missing())
import json
import torch
from mmpretrain import ImageClassificationInferencer, get_model
weights = torch.load('out/student.pth', weights_only=True)['state_dict']
get_model('out/student.py').load_state_dict(weights, strict=True)
result, = ImageClassificationInferencer('out/student.py', pretrained='out/student.pth')('image.png')
json.dump([result['pred_class'], result['pred_scores'].tolist()], open('answer.json', 'w'))
assert not {'mmkd_atsc', 'mmrazor'} & set(sys.modules)
"""


@pytest.fixture
def files(tmp_path):
    """A config file and a checkpoint of AEKT."""
    config = method_config('aekt')
    config.dump(tmp_path / 'aekt.py')
    train(config, tmp_path / 'aekt.pth')
    return tmp_path / 'aekt.py', tmp_path / 'aekt.pth', tmp_path / 'out'


def test_a_student_of_mmpretrains_own_needs_neither_plugin_nor_mmrazor(tmp_path):
    config = method_config('aekt', dict(MMPRETRAINS_OWN))
    config.dump(tmp_path / 'aekt.py')
    model = train(config, tmp_path / 'aekt.pth')
    run_here('export_student.py', tmp_path / 'aekt.py', tmp_path / 'aekt.pth', '--out', tmp_path / 'out')
    rgb = pixels(1)[0].permute(1, 2, 0).numpy().astype(np.uint8)
    cv2.imwrite(str(tmp_path / 'image.png'), rgb[..., ::-1])
    (tmp_path / 'elsewhere.py').write_text(ELSEWHERE)
    done = run_command(sys.executable, 'elsewhere.py', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    name, scores = json.loads((tmp_path / 'answer.json').read_text())
    expected = logits(model, pixels(1)).softmax(1)[0]
    torch.testing.assert_close(torch.tensor(scores), expected, rtol=0, atol=1e-6)
    assert name == 'abcdefghij'[expected.argmax()]


def test_a_wrong_checkpoint_or_command_is_one_line_and_writes_nothing(files, capsys):
    config, checkpoint, out = files
    other = checkpoint.with_name('other.pth')
    train(method_config('simkd'), other)
    for args, said in (
            ((other, '--out', out), r'other.pth does not fit the model of .*aekt.py: .* missing \(architecture\.'),
            ((checkpoint, '--out', config), 'aekt.py: is a file, not a folder to write into'),
            ((checkpoint, '--out', out, '--image-size', '32x'), "--image-size: invalid height_x_width value: '32x'"),
            ((checkpoint, '--out', out, '--cfg-options', 'modell.type=x'), 'modell')):
        assert re.search(said, refusal(capsys, 'export_student.py', config, *args))
    assert not out.exists()


HOOKED = """
_base_ = ['{demo}/kd_digits.py']
model = dict(teacher=dict(backbone=dict(depth=8)), teacher_ckpt=None, allow_random_teacher=True)
train_cfg = dict(max_epochs=1)
custom_hooks = [dict(type='mmkd_atsc.ExportStudentHook', formats=['onnx'])]
"""


def test_a_training_ends_with_its_student(tmp_path, in_process):
    config, run = tmp_path / 'hooked.py', tmp_path / 'run'
    config.write_text(HOOKED.format(demo=ROOT / 'configs' / 'demo'))
    run_here('train.py', config, '--work-dir', run, '--cfg-options', 'train_cfg.val_interval=1')
    assert 'exported best_' in next(run.glob('*/*.log')).read_text()
    best, = run.glob('best_*.pth')
    trained = torch.load(best)['state_dict']
    content = torch.load(run / 'student' / 'student.pth', weights_only=True)
    assert content['meta']['source'] == best.name
    assert content['meta']['dataset_meta'] == dict(classes=list('0123456789'))
    for key, value in content['state_dict'].items():
        assert torch.equal(value, trained[f'architecture.{key}']), key
    assert Config.fromfile(run / 'student' / 'student.py').model.head.num_classes == 10
    assert (run / 'student' / 'student.onnx').is_file()
    run_here('test.py', run / 'student' / 'student.py', run / 'student' / 'student.pth', '--work-dir', tmp_path / 't',
             '--out', tmp_path / 'm.json')
    logged = [line['student/accuracy/top1'] for line in scalars(run) if 'student/accuracy/top1' in line]
    assert json.loads((tmp_path / 'm.json').read_text())['accuracy/top1'] == pytest.approx(max(logged)), 'same data'


def test_a_training_whose_student_cannot_be_exported_is_saved_and_fails(tiny_config, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').touch()
    hook = "custom_hooks = [dict(type='mmkd_atsc.ExportStudentHook', which='last', out_dir='file')]"
    tiny_config.write_text(f'{tiny_config.read_text()}\n{hook}\n')
    with pytest.raises(SystemExit, match='2'):
        run_here('train.py', tiny_config, '--work-dir', 'run')
    error, = (line for line in capsys.readouterr().err.splitlines() if line.startswith('error: '))
    assert error.startswith('error: the training is done and saved, but ') and 'file: is a file, not a fo' in error
    assert (tmp_path / 'run' / 'epoch_2.pth').is_file()


@pytest.mark.parametrize('options, said', [
    (dict(formats=['onnx']), 'onnx needs onnx and onnxruntime: pip install'),
    ({}, r'test data \(Mine\) is not read by LoadImageFromFile'),
])
def test_what_would_keep_it_from_being_exported_stops_the_training(options, said, monkeypatch):
    monkeypatch.setattr('mmkd_atsc.export.formats.find_spec', lambda name: None)
    config = method_config('kd')
    config.test_dataloader.dataset.type = 'Mine'
    with pytest.raises((ValueError, ImportError), match=said):
        ExportStudentHook(**options).before_train(SimpleNamespace(cfg=config, model=None))
