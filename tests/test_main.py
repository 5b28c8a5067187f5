"""``python -m mmkd_atsc`` prints the environment and what is wrong with it, and runs scripts of other packages."""
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import mmpretrain
import mmrazor
import pytest

from mmkd_atsc import __main__ as report
from tests.conftest import assert_one_line_error, run_command, run_tool


def test_a_working_stack_is_reported_and_passes(tmp_path):
    done = run_command(sys.executable, '-m', 'mmkd_atsc', cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == '', done.stderr
    assert done.stdout.count('ok  ') == len(report.CHECKS) and 'wrong' not in done.stdout
    for name in report.requirements():
        assert f'\n{name}' in done.stdout
    assert f'\nmmrazor     {metadata.version("mmrazor")}\n' in done.stdout


def test_versions_are_printed_before_anything_is_imported(tmp_path):
    """A torch that never finishes importing does not keep them."""
    (tmp_path / 'torch.py').write_text('import time; time.sleep(600)')
    command = [sys.executable, '-m', 'mmkd_atsc']
    with subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE) as process:
        lines = [process.stdout.readline() for _ in range(1 + len(report.requirements()))]
        process.kill()
    assert lines[0].startswith('python ') and lines[1].startswith('torch ')


def pretend(monkeypatch, **versions):
    real = metadata.version

    def version(name):
        found = versions.get(name.replace('-', '_'), 'real')
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return real(name) if found == 'real' else found

    monkeypatch.setattr(metadata, 'version', version)


@pytest.mark.parametrize('versions, line', [
    (dict(mmengine='0.9.1'), 'mmengine 0.9.1 does not work here; pip install "mmengine<0.11,>=0.10.7"'),
    (dict(mmcv='2.2.0', mmcv_lite=None), 'mmcv 2.2.0 does not work here; pip install "mmcv<=2.1.0,>=2.0.'),
    (dict(mmcv=None, mmcv_lite=None), 'mmcv-lite is not installed; pip install "mmcv-lite<=2.1.0,>=2.0.'),
    (dict(setuptools='82.0.1'), 'setuptools 82.0.1 does not work here; pip install "setuptools<82"'),
    (dict(torch='2.5.1+cu124'), 'torch 2.5.1+cu124 does not work here; pip install "torch>=2.6"'),
    (dict(joblib=None), 'joblib is not installed; pip install "joblib"'),
])
def test_each_package_that_is_wrong_has_its_line(monkeypatch, capsys, versions, line):
    pretend(monkeypatch, **versions)
    assert report.report() == 1
    wrong = [text for text in capsys.readouterr().out.splitlines() if text.startswith('wrong')]
    assert len(wrong) == 1 and wrong[0].startswith(f'wrong       {line}')


def test_full_mmcv_serves_as_well_as_lite(monkeypatch, capsys):
    pretend(monkeypatch, mmcv='2.0.1', mmcv_lite=None)
    assert report.report() == 0 and '\nmmcv        2.0.1\n' in capsys.readouterr().out


@pytest.mark.parametrize('broken', ['mmrazor', 'mmengine', 'torch'])
def test_a_broken_package_is_a_line_and_not_a_traceback(tmp_path, broken):
    (tmp_path / broken).mkdir()
    (tmp_path / broken / '__init__.py').write_text('raise RuntimeError("half\\n installed")')
    done = run_command(sys.executable, '-m', 'mmkd_atsc', cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    wrong = [line for line in done.stdout.splitlines() if line.startswith('wrong')]
    assert any('(RuntimeError: half installed)' in line for line in wrong), done.stdout


def script_of(package):
    return Path(package.__file__).parent / '.mim' / 'tools' / 'train.py'


@pytest.mark.parametrize('package', [mmrazor, mmpretrain])
def test_their_scripts_train_a_config_that_inherits_ours(package, tiny_config, tmp_path):
    done = run_command(sys.executable, '-m', 'mmkd_atsc', script_of(package), tiny_config, '--work-dir', 'w',
                       '--cfg-options', 'train_cfg.max_epochs=1', 'train_dataloader.persistent_workers=False',
                       'val_dataloader.persistent_workers=False', 'test_dataloader.persistent_workers=False',
                       cwd=tmp_path)
    assert done.returncode == 0 and (tmp_path / 'w' / 'epoch_1.pth').is_file(), done.stderr


STOCK = """
_base_ = {stock!r}
model = dict(teacher_ckpt=None)
data = dict(_delete_=True, type='mmkd_atsc.Digits', train_images=10, pipeline=[dict(type='mmpretrain.PackInputs')])
train_dataloader = dict(batch_size=5, num_workers=0, persistent_workers=False, dataset=data)
val_dataloader = test_dataloader = dict(
    num_workers=0, persistent_workers=False, dataset=dict(data, split='test', train_images=1787))
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
"""


@pytest.mark.parametrize('stock', ['kd/kd_logits_resnet34_resnet18_8xb32_in1k'])
def test_mmrazors_distillations_written_for_mmcls_train(stock, tmp_path):
    path = Path(mmrazor.__file__).parent / '.mim' / 'configs' / 'distill' / 'mmcls' / f'{stock}.py'
    (tmp_path / 'tiny.py').write_text(STOCK.format(stock=str(path)))
    done = run_tool('train.py', 'tiny.py', cwd=tmp_path)
    assert done.returncode == 0 and 'distill.loss_kl: ' in done.stdout, done.stderr
    assert 'teacher.accuracy/top1: ' in done.stdout


def test_a_script_is_run_as_python_does(tmp_path):
    (tmp_path / 'scripts').mkdir()
    (tmp_path / 'scripts' / 'beside.py').write_text('import mmrazor.models')
    (tmp_path / 'scripts' / 'go.py').write_text('import sys, beside; print(__name__, sys.argv[1:], sys.path[0])')
    done = run_command(sys.executable, '-m', 'mmkd_atsc', 'scripts/go.py', '--a', 'b', cwd=tmp_path)
    assert done.stdout == f"__main__ ['--a', 'b'] {tmp_path / 'scripts'}\n", done.stderr
    done = run_command(sys.executable, '-m', 'mmkd_atsc', 'gone.py', cwd=tmp_path)
    assert_one_line_error(done, f'no such script: {tmp_path}/gone.py')
