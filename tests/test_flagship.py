"""The flagship command needs the data and nothing else: its teacher comes with the package."""
import re

import pytest
from mmengine.config import Config

from tests.conftest import ROOT, needs_cifar100, run_command, run_tool

CONFIG = ROOT / 'configs' / 'atsc' / 'resnet110_resnet32_cifar100.py'
SHORT = ('train_dataloader.dataset.indices=64', 'train_dataloader.batch_size=16', 'default_hooks.logger.interval=1',
         'val_dataloader.dataset.indices=200')


@needs_cifar100
def test_it_trains_validates_resumes_and_exports_on_two_cpu_processes(tmp_path, monkeypatch):
    monkeypatch.delenv('MMKD_TEACHERS', raising=False)
    for epochs, *resume in (1, ), (2, '--resume'):
        done = run_command(ROOT / 'tools' / 'dist_train.sh', CONFIG, 2, *resume, '--cfg-options', *SHORT,
                           f'train_cfg.max_epochs={epochs}', cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert re.findall(r'Epoch\(train\) \[(\d)\]\[2/2\]', done.stdout) == [str(epochs)]
    run = tmp_path / 'work_dirs' / 'atsc' / CONFIG.stem
    validated = float(re.findall(r'student/accuracy/top1: ([\d.]+)', done.stdout)[-1])

    done = run_tool('export_student.py', CONFIG, run, '--out', 'student', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    alone = Config.fromfile(CONFIG)  # for its data: an exported student's own are the user's images
    alone.model = Config.fromfile(tmp_path / 'student' / 'student.py').model
    alone.model.pop('data_preprocessor')
    alone.merge_from_dict({'test_dataloader.dataset.indices': 200, 'test_cfg': dict(_delete_=True)})
    alone.dump(tmp_path / 'alone.py')
    done = run_tool('test.py', 'alone.py', 'student/student.pth', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    tested = float(re.findall(r'accuracy/top1: ([\d.]+)', done.stdout)[-1])
    assert tested == pytest.approx(validated, abs=0.5)  # an image of 200
