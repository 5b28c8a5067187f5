"""``python -m mmkd_atsc`` prints the environment and what is wrong with it, and runs scripts of other packages."""
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import mmpretrain
import mmrazor
import pytest

from mmkd_atsc import __main__ as report
from tests.conftest import assert_one_line_error, run_command


def test_a_working_stack_is_reported_and_passes(tmp_path):
    done = run_command(sys.executable, '-m', 'mmkd_atsc', cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == '', done.stderr
    assert done.stdout.count('ok  ') == len(report.CHECKS) and 'wrong' not in done.stdout
    for name, _, _ in report.STACK:
        assert f'\n{name}' in done.stdout
    assert f'\nmmrazor     {metadata.version("mmrazor")}\n' in done.stdout


def test_versions_are_printed_before_anything_is_imported(tmp_path):
    """A torch that never finishes importing does not keep them."""
    (tmp_path / 'torch.py').write_text('import time; time.sleep(600)')
    command = [sys.executable, '-m', 'mmkd_atsc']
    with subprocess.Popen(command, cwd=tmp_path, text=True, stdout=subprocess.PIPE) as process:
        lines = [process.stdout.readline() for _ in range(1 + len(report.STACK))]
        process.kill()
    assert lines[0].startswith('python ') and lines[-1].startswith('numpy ')


def pretend(monkeypatch, **versions):
    real = metadata.version

    def version(name):
        found = versions.get(name.replace('-', '_'), 'real')
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return real(name) if found == 'real' else found

    monkeypatch.setattr(metadata, 'version', version)


@pytest.mark.parametrize('versions, line', [
    (dict(mmengine='0.9.1'), 'mmengine 0.9.1 does not work here; pip install "mmengine>=0.10.7,<0.11"'),
    (dict(mmcv='2.2.0'), 'mmcv 2.2.0 does not work here; pip install "mmcv>=2.0.0,<2.1.1"'),
    (dict(mmcv=None, mmcv_lite=None), 'mmcv is not installed; pip install "mmcv-lite>=2.0.0,<2.1.1"'),
    (dict(setuptools='82.0.1'), 'setuptools 82.0.1 does not work here; pip install "setuptools<82"'),
    (dict(torch='2.5.1+cu124'), 'torch 2.5.1+cu124 does not work here; pip install "torch>=2.6"'),
    (dict(joblib=None), 'joblib is not installed; pip install "joblib"'),
])
def test_each_package_that_is_wrong_has_its_line(monkeypatch, capsys, versions, line):
    pretend(monkeypatch, **versions)
    assert report.report() == 1
    wrong = [text for text in capsys.readouterr().out.splitlines() if text.startswith('wrong')]
    assert wrong == [f'wrong       {line}']


def test_full_mmcv_serves_as_well_as_lite(monkeypatch):
    pretend(monkeypatch, mmcv='2.0.1', mmcv_lite=None)
    assert report.check_versions() == []


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


def test_a_script_is_run_as_python_does(tmp_path):
    (tmp_path / 'scripts').mkdir()
    (tmp_path / 'scripts' / 'beside.py').write_text('import mmrazor.models')
    (tmp_path / 'scripts' / 'go.py').write_text('import sys, beside; print(__name__, sys.argv[1:], sys.path[0])')
    done = run_command(sys.executable, '-m', 'mmkd_atsc', 'scripts/go.py', '--a', 'b', cwd=tmp_path)
    assert done.stdout == f"__main__ ['--a', 'b'] {tmp_path / 'scripts'}\n", done.stderr
    done = run_command(sys.executable, '-m', 'mmkd_atsc', 'gone.py', cwd=tmp_path)
    assert_one_line_error(done, f'no such script: {tmp_path}/gone.py')
