"""The demo's table, plot and export; that rows are not trained twice is tested with the suites."""
import importlib.util
import os
import signal

import pytest
from mmengine.config import Config

from analysis import suite
from analysis.summary import deployed_parameters
from tests.conftest import ROOT
from tests.test_export.trained import method_config, train


@pytest.fixture
def demo(monkeypatch):
    """tools/demo.py, with training left out."""
    spec = importlib.util.spec_from_file_location('demo', ROOT / 'tools' / 'demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for variable in ('DEMO_TEACHER', 'DEMO_TEACHER2'):
        monkeypatch.setenv(variable, 'none')
    return module


def test_the_table_is_markdown(demo):
    line = demo.Line(demo.rows()[3], 5050, 93.456, 41.7)
    assert demo.table([line]).splitlines() == [
        '| method | student parameters | accuracy % | seconds |', '|---|---:|---:|---:|',
        '| KD (mmrazor) | 5,050 | 93.46 | 42 |']


def test_a_shared_classifier_counts_among_the_deployed_parameters(demo):
    config = Config.fromfile(ROOT / 'configs' / 'demo' / 'atsc_digits.py')
    # backbone 5,044; projector 16 to 32 to 64 channels with its norms; the teacher's classifier of 10 times 64 and 10
    projector = 16 * 32 + 9 * 32 * 32 + 32 * 64 + 2 * (32 + 32 + 64)
    assert deployed_parameters(config) == 5214 - 170 + projector + 650


def test_the_best_student_is_taken_along(demo, tmp_path):
    lines = []
    for name, accuracy in (('kd', 91.0), ('atsc', 93.0)):
        config, run = method_config(name), tmp_path / f'{name}_digits'
        run.mkdir()
        train(config, run / 'epoch_40.pth')
        config.dump(tmp_path / f'{name}_digits.py')
        (run / 'last_checkpoint').write_text(f'{run}/epoch_40.pth\n')
        lines.append(demo.Line(suite.Row(name.upper(), tmp_path / f'{name}_digits.py', run.name), 1, accuracy, 1.0))
    said = demo.take_best(lines, tmp_path)
    assert said.startswith(f'best student: ATSC, exported without its teacher to {tmp_path / "student"}')
    scope, code = {}, [line.strip() for line in said.splitlines()[1:]]
    exec(f'{code[0]}\nnetwork = ' + code[1][:-len("('digit.png')")], scope)
    assert 'classifier.head.fc.weight' in scope['network'].model.head.state_dict()


def test_every_config_of_the_demo_is_a_row_and_the_taught_wait_for_both_teachers(demo):
    rows = demo.rows()
    assert {row.config.resolve() for row in rows} == set((ROOT / 'configs' / 'demo').glob('*.py'))
    teachers = ('teacher_digits', 'teacher2_digits')
    taught = {row.folder for row in rows if row.needs == teachers}
    assert taught == {path.stem for path in (ROOT / 'configs' / 'demo').glob('*.py') if 'DEMO_TEACHER' in
                      Config.fromfile(path).text} and {row.folder for row in rows[:2]} == set(teachers)


def test_a_wrong_option_is_one_line(demo, capsys):
    with pytest.raises(SystemExit):
        demo.main(['--outt', 'x'])
    assert capsys.readouterr().err.startswith('error: unrecognized arguments: --outt x')


def test_who_ends_it_ends_the_command(demo, tmp_path, monkeypatch):
    """Rather than going on to a table of what is not there."""
    def run_suite(rows, out, workers, stop, **environment):
        stop.now(signal.SIGTERM)
        return [suite.Result(row, 'waiting') for row in rows]

    def end(process, number):
        assert (process, number) == (os.getpid(), signal.SIGTERM)
        raise SystemExit

    monkeypatch.setattr(demo, 'run_suite', run_suite)
    monkeypatch.setattr(os, 'kill', end)
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit):
            demo.main(['--out', str(tmp_path)])
    finally:
        signal.signal(signal.SIGTERM, before)
