"""``python -m mmkd_atsc`` says what is there and what is wrong with it, whatever that is."""
import sys
from importlib import metadata

import pytest

from mmkd_atsc import __main__ as report
from tests.conftest import run_command


def test_a_working_stack_is_reported_and_passes(tmp_path):
    done = run_command(sys.executable, '-m', 'mmkd_atsc', cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == '', done.stderr
    assert done.stdout.count('ok  ') == len(report.CHECKS) and 'wrong' not in done.stdout
    for name, _, _ in report.STACK:
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
    (dict(mmengine='0.9.1'), 'mmengine 0.9.1 does not work here; pip install "mmengine>=0.10.7,<0.11"'),
    (dict(mmcv='2.2.0'), 'mmcv 2.2.0 does not work here; pip install "mmcv>=2.0.0,<2.1.1"'),
    (dict(mmcv=None, mmcv_lite=None), 'mmcv is not installed; pip install "mmcv-lite>=2.0.0,<2.1.1"'),
    (dict(setuptools='82.0.1'), 'setuptools 82.0.1 does not work here; pip install "setuptools<82"'),
    (dict(torch='2.5.1+cu124'), 'torch 2.5.1+cu124 does not work here; pip install "torch>=2.6"'),
    (dict(joblib=None), 'joblib is not installed; pip install "joblib"'),
])
def test_each_package_that_is_wrong_has_its_line(monkeypatch, capsys, versions, line):
    pretend(monkeypatch, **versions)
    assert report.main() == 1
    wrong = [text for text in capsys.readouterr().out.splitlines() if text.startswith('wrong')]
    assert wrong == [f'wrong       {line}']


def test_full_mmcv_serves_as_well_as_lite(monkeypatch):
    pretend(monkeypatch, mmcv='2.0.1', mmcv_lite=None)
    assert report.check_versions() == []


@pytest.mark.skipif(sys.version_info < (3, 10), reason='before 3.10 Python does not say how it was started')
@pytest.mark.parametrize('broken', ['mmrazor', 'mmengine', 'torch'])
def test_a_broken_package_is_a_line_and_not_a_traceback(tmp_path, broken):
    (tmp_path / broken).mkdir()
    (tmp_path / broken / '__init__.py').write_text('raise RuntimeError("half\\n installed")')
    done = run_command(sys.executable, '-m', 'mmkd_atsc', cwd=tmp_path)
    assert done.returncode == 1 and 'Traceback' not in done.stderr, done.stderr
    wrong = [line for line in done.stdout.splitlines() if line.startswith('wrong')]
    assert any('(RuntimeError: half installed)' in line for line in wrong), done.stdout


def test_our_import_mends_the_stack_for_other_peoples_modules_too(tmp_path):
    (tmp_path / 'project').mkdir()
    (tmp_path / 'project' / '__init__.py').write_text('import mmkd_atsc')
    (tmp_path / 'project' / 'go.py').write_text('import mmrazor.models')
    done = run_command(sys.executable, '-m', 'project.go', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
