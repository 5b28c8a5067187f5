"""The demo's rows and export; that rows are not trained twice is tested with the suites."""
from analysis.suite import Row
from tests.conftest import ROOT
from tests.test_export.trained import method_config, train
from tools import demo


def test_the_best_student_is_taken_along(tmp_path):
    lines = []
    for name, accuracy in (('kd', 91.0), ('atsc', 93.0)):
        config, run = method_config(name), tmp_path / f'{name}_digits'
        run.mkdir()
        train(config, run / 'epoch_40.pth')
        config.dump(tmp_path / f'{name}_digits.py')
        (run / 'last_checkpoint').write_text(f'{run}/epoch_40.pth\n')
        lines.append(demo.Line(Row(name.upper(), tmp_path / f'{name}_digits.py', run.name), 1, accuracy, 1.0))
    said = demo.take_best(lines, tmp_path)
    assert said.startswith(f'best student: ATSC, exported without its teacher to {tmp_path / "student"}')
    scope, code = {}, [line.strip() for line in said.splitlines()[1:]]
    exec(f'{code[0]}\nnetwork = ' + code[1][:-len("('digit.png')")], scope)
    assert 'classifier.head.fc.weight' in scope['network'].model.head.state_dict()


def test_every_config_of_the_demo_is_a_row_and_the_taught_wait_for_both_teachers():
    rows, folder = demo.rows(), ROOT / 'configs' / 'demo'
    assert {row.config.resolve() for row in rows} == set(folder.glob('*.py'))
    alone = {row.folder for row in rows if not row.needs}
    assert alone == {'teacher_digits', 'teacher2_digits', 'student_digits'}
    assert all(set(row.needs) == alone - {'student_digits'} for row in rows if row.needs)
