"""The flagship command needs the data and nothing else: its teacher comes with the package."""
import re

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
    assert re.search(r'student/accuracy/top1: [\d.]+', done.stdout)
    run = tmp_path / 'work_dirs' / 'atsc' / CONFIG.stem
    done = run_tool('export_student.py', CONFIG, run, '--out', 'student', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'student' / 'student.pth').is_file()
