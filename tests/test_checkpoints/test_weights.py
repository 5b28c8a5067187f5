"""The checkpoints that come with the package are what their table says, and what the configs read."""
import re
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmkd_atsc.checkpoints.read import load_strictly, read_weights
from mmkd_atsc.models.teacher import Teacher
from tests.conftest import ROOT, needs_cifar100, run_tool

CONFIGS = ROOT / 'configs'
WEIGHTS = CONFIGS / 'weights'
RUNS = sorted(path.parent.relative_to(WEIGHTS).as_posix() for path in WEIGHTS.rglob('*.pth'))
ROWS = {run: (network, config, accuracy, log) for run, network, config, accuracy, log in re.findall(
    r'^\| \[\S+\]\((\S+)\) \| (\w+) \| \[[^\]]+\]\((\S+)\)[^|]* \| ([\d.]+) \| \[\w+\]\((\S+)\) \|$',
    (WEIGHTS / 'README.md').read_text(), flags=re.M)}
every_run = pytest.mark.parametrize('run', RUNS)


def test_the_table_lists_them_all_and_they_stay_small():
    assert RUNS and sorted(ROWS) == RUNS
    assert sum(file.stat().st_size for file in WEIGHTS.rglob('*.pth')) < 25e6


@every_run
def test_a_file_fits_the_network_that_its_config_trains(run):
    network, config, _, log = ROWS[run]
    config = Config.fromfile(WEIGHTS / config)
    assert (WEIGHTS / log).is_file() and Path(log).name == f'{run}.json.gz'
    init_default_scope(config.default_scope)
    load_strictly(MODELS.build(config.model), read_weights(f'mmkd_atsc::weights/{run}'), run)
    bases = Config.fromfile(CONFIGS / '_base_' / 'models' / f'{network}.py')
    teacher = Teacher(bases[network], f'mmkd_atsc::weights/{run}')
    assert teacher.fingerprint.any()


def test_configs_whose_teacher_is_here_read_it_and_no_others_do():
    read = {}
    for path in CONFIGS.rglob('*.py'):
        for default, run in re.findall(r"'\{\{\$MMKD_TEACHERS:(\S+?)\}\}/([^']+)'", path.read_text()):
            read.setdefault(run, set()).add(default)
    assert len(read) > len(RUNS)
    for run, defaults in read.items():
        assert defaults == ({'mmkd_atsc::weights'} if run in RUNS else {'work_dirs'}), run


def test_a_student_is_built_with_the_teacher_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MMKD_TEACHERS', raising=False)
    config = Config.fromfile(CONFIGS / 'short' / 'atsc_two_resnet20_resnet8.py')
    init_default_scope(config.default_scope)
    assert list(MODELS.build(config.model).teachers) == ['seed0', 'seed1']


def test_a_name_that_is_none_is_told_which_there_are():
    with pytest.raises(FileNotFoundError, match='mmkd_atsc::weights/resnet20.pth: no such checkpoint; this package '
                                                f'brings mmkd_atsc::weights/{RUNS[0]}, '):
        read_weights('mmkd_atsc::weights/resnet20.pth')


@needs_cifar100
@every_run
def test_its_accuracy_is_the_tables(run, tmp_path):
    _, config, accuracy, _ = ROWS[run]
    done = run_tool('test.py', WEIGHTS / config, f'mmkd_atsc::weights/{run}', '--work-dir', tmp_path)
    assert done.returncode == 0, done.stderr
    # Another order of the same sums may move an image or two of the 10,000.
    assert float(re.findall(r'accuracy/top1: ([\d.]+)', done.stdout)[-1]) == pytest.approx(float(accuracy), abs=0.03)
