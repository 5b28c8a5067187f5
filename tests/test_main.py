"""``python -m mmkd_atsc`` prints the environment and what is wrong with it, and runs scripts of other packages."""
import sys
from importlib import metadata
from pathlib import Path

import mmrazor
import pytest

from mmkd_atsc import __main__ as report
from tests.conftest import assert_one_line_error, run_command


def test_a_working_stack_is_reported_and_passes(tmp_path):
    done = run_command(sys.executable, '-m', 'mmkd_atsc', cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == '', done.stderr
    assert '\nok          all packages import' in done.stdout and 'wrong' not in done.stdout
    for name in report.requirements():
        assert f'\n{name}' in done.stdout
    assert f'\nmmrazor     {metadata.version("mmrazor")}\n' in done.stdout


def pretend(monkeypatch, **versions):
    real = metadata.version

    def version(name):
        found = versions.get(name.replace('-', '_'), 'real')
        if found is None:
            raise metadata.PackageNotFoundError(name)
        return real(name) if found == 'real' else found

    monkeypatch.setattr(metadata, 'version', version)


@pytest.mark.parametrize('versions, line', [
    (dict(mmcv='2.2.0', mmcv_lite=None), 'mmcv 2.2.0 does not work here; pip install "mmcv<=2.1.0,>=2.0.'),
    (dict(mmcv=None, mmcv_lite=None), 'mmcv-lite is not installed; pip install "mmcv-lite<=2.1.0,>=2.0.'),
    (dict(torch='2.5.1+cu124'), 'torch 2.5.1+cu124 does not work here; pip install "torch>=2.6"'),
])
def test_each_package_that_is_wrong_has_its_line(monkeypatch, capsys, versions, line):
    pretend(monkeypatch, **versions)
    assert report.report() == 1
    wrong = [text for text in capsys.readouterr().out.splitlines() if text.startswith('wrong')]
    assert len(wrong) == 1 and wrong[0].startswith(f'wrong       {line}')


def test_a_broken_package_is_a_line_and_not_a_traceback(tmp_path):
    (tmp_path / 'torch.py').write_text('raise RuntimeError("half\\n installed")')
    done = run_command(sys.executable, '-m', 'mmkd_atsc', cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    wrong = [line for line in done.stdout.splitlines() if line.startswith('wrong')]
    assert any('RuntimeError: half installed' in line for line in wrong), done.stdout


def test_mmrazors_script_trains_a_config_that_inherits_ours(tiny_config, tmp_path):
    script = Path(mmrazor.__file__).parent / '.mim' / 'tools' / 'train.py'
    done = run_command(sys.executable, '-m', 'mmkd_atsc', script, tiny_config, '--work-dir', 'w',
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
