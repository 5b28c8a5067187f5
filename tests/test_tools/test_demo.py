"""The demo's table, and when it trains a row, goes on with one, or takes the result that is there."""
import importlib.util
import json
import os
import shutil

import pytest
from mmengine.config import Config

from tests.conftest import ROOT
from tests.test_export.trained import method_config, train


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """tools/demo.py over a copy of the configs, with training replaced by a note of the command."""
    spec = importlib.util.spec_from_file_location('demo', ROOT / 'tools' / 'demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs', ignore=shutil.ignore_patterns('__pycache__'))
    monkeypatch.setattr(module, 'ROOT', tmp_path)
    for variable in module.TEACHER_VARIABLES:
        monkeypatch.setenv(variable, 'none')
    module.resumed, module.epochs, module.fails = [], [5, 10], False

    def fake_training(config, work_dir, options=(), resume=False, **environment):
        module.resumed.append(resume)
        if module.fails:
            raise RuntimeError('killed')
        log = work_dir / f'run{len(module.resumed)}' / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(''.join(json.dumps({'accuracy/top1': 80.0 + epoch, 'step': epoch}) + '\n'
                               for epoch in module.epochs))

    monkeypatch.setattr(module, 'run_training', fake_training)
    return module


def row(demo):
    return next(row for row in demo.ROWS if row.config == 'student_digits')


def test_a_row_that_is_done_is_not_trained_again(demo, tmp_path):
    first = demo.train([row(demo)], tmp_path / 'out')[0]
    assert first['accuracy'] == 90.0 and first['parameters'] == 5214 and len(demo.resumed) == 1
    assert demo.train([row(demo)], tmp_path / 'out')[0] == first and len(demo.resumed) == 1


def test_a_changed_config_is_trained_anew_and_old_logs_do_not_count(demo, tmp_path):
    demo.train([row(demo)], tmp_path / 'out')[0]
    config = tmp_path / 'configs' / 'demo' / 'student_digits.py'
    config.write_text(config.read_text() + 'train_cfg = dict(max_epochs=5)\n')
    demo.epochs = [5]
    assert demo.train([row(demo)], tmp_path / 'out')[0]['accuracy'] == 85.0
    assert demo.resumed == [False, False]


def test_an_interrupted_row_goes_on(demo, tmp_path):
    demo.fails = True
    with pytest.raises(RuntimeError):
        demo.train([row(demo)], tmp_path / 'out')[0]
    demo.fails = False
    demo.train([row(demo)], tmp_path / 'out')[0]
    assert demo.resumed == [False, True]


def test_another_teacher_means_another_result(demo, tmp_path):
    taught = demo.Row('taught', 'student_digits', uses_teacher=True)
    teacher = tmp_path / 'teacher.pth'
    for content in (b'one', b'one', b'two'):
        teacher.write_bytes(content)
        demo.train([taught], tmp_path / 'out', [teacher])
    assert len(demo.resumed) == 2 and os.environ['DEMO_TEACHER'] == str(teacher)


def test_the_table_is_markdown(demo):
    results = [dict(name='KD', parameters=5050, accuracy=93.456, seconds=41.7)]
    assert demo.table(results).splitlines() == [
        '| method | student parameters | accuracy % | seconds |', '|---|---:|---:|---:|', '| KD | 5,050 | 93.46 | 42 |']


def test_the_plot_is_a_picture(demo, tmp_path):
    atsc = [{'step': 5, 'student/accuracy/top1': 60.0, 'teacher/accuracy/top1': 90.0},
            {'step': 9, 'epoch': 5, 'teacher/drift': 0.01}]
    demo.plot({'teacher': [(5, 90.0), (10, 95.0)], 'KD': [(5, 70.0), (10, 92.0)]}, atsc, tmp_path / 'a.png')
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_a_shared_classifier_counts_among_the_deployed_parameters(demo):
    config = Config.fromfile(ROOT / 'configs' / 'demo' / 'atsc_digits.py')
    # backbone 5,044; projector 16 to 32 to 64 channels with its norms; the teacher's classifier of 10 times 64 and 10
    projector = 16 * 32 + 9 * 32 * 32 + 32 * 64 + 2 * (32 + 32 + 64)
    assert demo.deployed_parameters(config) == 5214 - 170 + projector + 650


def test_the_best_student_is_taken_along(demo, tmp_path):
    for name in ('kd', 'atsc'):
        config, run = method_config(name), tmp_path / f'{name}_digits'
        run.mkdir()
        train(config, run / 'epoch_40.pth')
        config.dump(tmp_path / 'configs' / 'demo' / f'{name}_digits.py')
        (run / 'last_checkpoint').write_text(f'{run}/epoch_40.pth\n')
    results = [dict(name=name.upper(), config=f'configs/demo/{name}_digits.py', accuracy=accuracy)
               for name, accuracy in (('kd', 91.0), ('atsc', 93.0))]
    said = demo.take_best(results, tmp_path)
    assert said.startswith(f'best student: ATSC, exported without its teacher to {tmp_path / "student"}')
    scope, code = {}, [line.strip() for line in said.splitlines()[1:]]
    exec(f'{code[0]}\nnetwork = ' + code[1][:-len("('digit.png')")], scope)
    assert 'classifier.head.fc.weight' in scope['network'].model.head.state_dict()


def test_each_row_has_its_config_and_the_teachers_come_first(demo):
    assert [a_row.config for a_row in demo.TEACHERS] == ['teacher_digits', 'teacher2_digits']
    assert not any(a_row.uses_teacher for a_row in demo.TEACHERS)
    for a_row in demo.ROWS:
        assert (ROOT / 'configs' / 'demo' / f'{a_row.config}.py').is_file()
    assert len({a_row.config for a_row in demo.ROWS}) == len(demo.ROWS)


def test_a_wrong_option_is_one_line(demo, capsys):
    with pytest.raises(SystemExit):
        demo.main(['--outt', 'x'])
    assert capsys.readouterr().err.startswith('error: unrecognized arguments: --outt x')
