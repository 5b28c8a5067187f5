"""The package as others have it: from a wheel, away from the repository, with its configs and tools inside."""
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY_TRAINING, run_command

PARTS = ('setup.py', 'MANIFEST.in', 'README.md', 'LICENSE', 'model-index.yml', 'mmkd_atsc', 'configs', 'tools')

@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """The folder into which a wheel of this tree was installed, and a project's folder beside it."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'  # building leaves files behind, so a copy is built
    source.mkdir()
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns('__pycache__', '.mim'))
        else:
            shutil.copy2(ROOT / part, source / part)
    pip = (sys.executable, '-m', 'pip', '--disable-pip-version-check')
    built = run_command(*pip, 'wheel', '.', '--no-deps', '--no-build-isolation', '-w', folder, cwd=source)
    assert built.returncode == 0, built.stderr
    wheel, = folder.glob('*.whl')
    done = run_command(*pip, 'install', '--no-deps', '--target', folder / 'site', wheel)
    assert done.returncode == 0, done.stderr
    (folder / 'project').mkdir()
    (folder / 'project' / 'mine.py').write_text(TINY_TRAINING)
    return folder / 'site'


def run_in_project(site, *command):
    return run_command(sys.executable, *command, cwd=site.parent / 'project', PYTHONPATH=str(site))


def test_a_wheel_holds_configs_and_tools_without_the_logs_of_runs(installed):
    mim = installed / 'mmkd_atsc' / '.mim'
    for part in ('configs', 'tools'):
        here = {p.relative_to(ROOT) for p in (ROOT / part).rglob('*')
                if p.is_file() and not {'__pycache__', 'logs'} & set(p.parts)}
        assert here == {p.relative_to(mim) for p in (mim / part).rglob('*')
                        if p.is_file() and '__pycache__' not in p.parts}
    assert (mim / 'model-index.yml').read_text() == (ROOT / 'model-index.yml').read_text()
    assert not any(path.is_symlink() for path in mim.rglob('*'))
    assert not (installed / 'tests').exists() and not (installed / 'configs').exists()
    wheel, = installed.parent.glob('*.whl')
    assert wheel.stat().st_size < 25e6


def test_another_projects_config_inherits_trains_and_is_scored(installed):
    tools = installed / 'mmkd_atsc' / '.mim' / 'tools'
    where = run_in_project(installed, '-c', 'import mmkd_atsc; print(mmkd_atsc.__file__)')
    assert Path(where.stdout.strip()) == installed / 'mmkd_atsc' / '__init__.py'

    trained = run_in_project(installed, tools / 'train.py', 'mine.py')
    assert trained.returncode == 0, trained.stderr
    assert 'Epoch(train) [2][4/4]' in trained.stdout and 'accuracy/top1' in trained.stdout
    assert trained.stderr == ''
    work_dir = installed.parent / 'project' / 'work_dirs' / 'mine'
    tested = run_in_project(installed, tools / 'test.py', 'mine.py', work_dir / 'epoch_2.pth', '--out', 'scores.json')
    assert tested.returncode == 0 and (installed.parent / 'project' / 'scores.json').is_file(), tested.stderr
    assert {path.name for path in (installed.parent / 'project').iterdir()} == {'mine.py', 'scores.json', 'work_dirs'}


def test_its_tools_find_the_modules_beside_them(installed):
    tools = installed / 'mmkd_atsc' / '.mim' / 'tools'
    log = ROOT / 'configs' / 'demo' / 'logs' / 'kd_digits.json.gz'
    compared = run_in_project(installed, tools / 'analysis' / 'compare.py', log)
    assert '| KD | resnet20 → CIFARResNet8 | 0 | 40 | 96.56 |' in compared.stdout, compared.stderr
    shown = run_in_project(installed, tools / 'benchmark' / 'deploy.py', '--help')
    assert shown.returncode == 0, shown.stderr
