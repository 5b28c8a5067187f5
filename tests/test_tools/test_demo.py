"""The demo's table, plot and export; that rows are not trained twice is tested with the suites."""
import importlib.util

import pytest
from mmengine.config import Config

from analysis import suite
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
