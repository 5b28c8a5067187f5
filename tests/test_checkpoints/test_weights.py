"""The checkpoints that come with the package are what their table says, and what the configs read."""
import itertools
import re
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.hub import get_model
from mmengine.registry import MODELS, init_default_scope

from analysis.cifar_networks import classifier
from analysis.summary import read_run
from mmkd_atsc.checkpoints.read import load_strictly, read_weights
from mmkd_atsc.models.teacher import Teacher
from tests.conftest import ROOT, needs_cifar100, run_here
from tests.test_configs import PUBLISHED
from tests.test_tools.test_int8 import accuracies

CONFIGS = ROOT / 'configs'
WEIGHTS = CONFIGS / 'weights'
RUNS = sorted(path.parent.relative_to(WEIGHTS).as_posix() for path in WEIGHTS.rglob('*.pth'))


Row = namedtuple('Row', 'run network accuracy before published config log')  # a line of the page's table
NUMBER, LINK = r'([\d.]+)', r'\[\S+\]\((\S+)\)'
LINE = rf'^\| {LINK} \| (\w+) \| {NUMBER} \| {NUMBER} \| {NUMBER} \| {LINK}[^|]* \| {LINK} \|$'
ROWS = {row.run: row for row in itertools.starmap(
    Row, re.findall(LINE, (WEIGHTS / 'README.md').read_text(), flags=re.M))}
every_run = pytest.mark.parametrize('run', RUNS)


def test_the_table_lists_them_all_and_they_stay_small():
    assert RUNS and sorted(ROWS) == RUNS
    assert sum(file.stat().st_size for file in WEIGHTS.rglob('*.pth')) < 25e6


@every_run
def test_the_table_says_what_the_log_does(run):
    row = ROWS[run]
    trained = read_run(WEIGHTS / row.log)
    assert (trained.name, trained.student, f'{trained.last:.2f}') == (run, row.network, row.before)
    assert trained.done == trained.goal and trained.config_name in (Path(row.config).stem, run)
    assert row.published == f'{PUBLISHED[row.network]:.2f}'


def test_the_metafiles_say_what_the_table_does():
    models = {model['Weights']: model for name in ('short', 'teachers')
              for model in load(CONFIGS / name / 'metafile.yml')['Models'] if 'Weights' in model}
    assert len(models) >= 3
    for weights, model in models.items():
        row = ROWS[weights.partition('weights/')[2]]
        assert f'{model["Results"][0]["Metrics"]["Top 1 Accuracy"]:.2f}' == row.accuracy
        assert (WEIGHTS / row.config).is_file() and Path(model['Config']).stem.removesuffix('_cifar100') == row.network
        assert model['Metadata']['Epochs'] == read_run(WEIGHTS / row.log).done


@pytest.mark.parametrize('config, run', [('short/resnet20', 'short_resnet20'),
                                         ('teachers/resnet110_cifar100', 'resnet110_cifar100')])
def test_the_hub_brings_a_network_with_them(config, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = read_weights(f'mmkd_atsc::weights/{run}')
    teacher = Teacher(dict(cfg_path=f'mmkd_atsc::{config}.py', pretrained=True))
    for network in get_model(f'mmkd_atsc::{config}.py', pretrained=True), teacher.model:
        assert all(torch.equal(value, ours[key].to(value.dtype)) for key, value in network.state_dict().items())


@every_run
def test_a_file_fits_the_network_that_its_config_trains(run):
    config = Config.fromfile(WEIGHTS / ROWS[run].config)
    init_default_scope(config.default_scope)
    load_strictly(MODELS.build(config.model), read_weights(f'mmkd_atsc::weights/{run}'), run)
    teacher = Teacher(classifier(ROWS[run].network), f'mmkd_atsc::weights/{run}')
    assert teacher.fingerprint.any()


def test_configs_whose_teacher_is_here_read_it_and_no_others_do():
    read = {}
    for path in CONFIGS.rglob('*.py'):
        for default, run in re.findall(r"'\{\{\$MMKD_TEACHERS:(\S+?)\}\}/([^']+)'", path.read_text()):
            read.setdefault(run, set()).add(default)
    assert len(read) > len(RUNS)
    for run, defaults in read.items():
        assert defaults == ({'mmkd_atsc::weights'} if run in RUNS else {'work_dirs/teachers'}), run


@needs_cifar100
@pytest.mark.parametrize('run', [run if run.startswith('short') else pytest.param(run, marks=pytest.mark.slow)
                                 for run in RUNS])
def test_its_accuracy_is_the_tables_and_int8_loses_less_than_a_point(run, tmp_path, capsys):
    run_here('export_student.py', WEIGHTS / ROWS[run].config, f'mmkd_atsc::weights/{run}', '--int8', '--out', tmp_path)
    fp32, int8 = accuracies(capsys.readouterr().out).values()
    # Another order of the same sums may move an image or two of the 10,000.
    assert fp32 == pytest.approx(float(ROWS[run].accuracy), abs=0.03) and fp32 - int8 < 1
