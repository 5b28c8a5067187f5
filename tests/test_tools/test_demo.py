"""The demo's table, and when it trains a row, goes on with one, or takes the result that is there."""
import importlib.util
import json
import os
import shutil
import subprocess

import pytest

from tests.conftest import ROOT


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """tools/demo.py over a copy of the configs, with training replaced by a note of the command."""
    spec = importlib.util.spec_from_file_location('demo', ROOT / 'tools' / 'demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    shutil.copytree(ROOT / 'configs', tmp_path / 'configs', ignore=shutil.ignore_patterns('__pycache__'))
    monkeypatch.setattr(module, 'ROOT', tmp_path)
    monkeypatch.setenv('DEMO_TEACHER', 'none')
    module.commands, module.epochs, module.exit_code = [], [5, 10], 0

    def fake_training(command, cwd, env, stdout, stderr):
        module.commands.append(command[3:])
        log = tmp_path / 'out' / 'student_digits' / f'run{len(module.commands)}' / 'vis_data' / 'scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(''.join(json.dumps({'accuracy/top1': 80.0 + epoch, 'step': epoch}) + '\n'
                               for epoch in module.epochs))
        return subprocess.CompletedProcess(command, module.exit_code)

    monkeypatch.setattr(module.subprocess, 'run', fake_training)
    return module


def row(demo):
    return next(row for row in demo.ROWS if row.config == 'student_digits')


def test_a_row_that_is_done_is_not_trained_again(demo, tmp_path):
    first = demo.train(row(demo), tmp_path / 'out', None)
    assert first['accuracy'] == 90.0 and first['parameters'] == 5214 and len(demo.commands) == 1
    assert demo.train(row(demo), tmp_path / 'out', None) == first and len(demo.commands) == 1


def test_a_changed_config_is_trained_anew_and_old_logs_do_not_count(demo, tmp_path):
    demo.train(row(demo), tmp_path / 'out', None)
    config = tmp_path / 'configs' / 'demo' / 'student_digits.py'
    config.write_text(config.read_text() + 'train_cfg = dict(max_epochs=5)\n')
    demo.epochs = [5]
    assert demo.train(row(demo), tmp_path / 'out', None)['accuracy'] == 85.0
    assert len(demo.commands) == 2 and '--resume' not in demo.commands[1]


def test_an_interrupted_row_goes_on(demo, tmp_path):
    demo.exit_code = 1
    with pytest.raises(RuntimeError, match=r'student alone did not train; its output is in .*output\.log'):
        demo.train(row(demo), tmp_path / 'out', None)
    demo.exit_code = 0
    demo.train(row(demo), tmp_path / 'out', None)
    assert '--resume' not in demo.commands[0] and demo.commands[1][-1] == '--resume'


def test_another_teacher_means_another_result(demo, tmp_path):
    taught = demo.Row('taught', 'student_digits', uses_teacher=True)
    teacher = tmp_path / 'teacher.pth'
    for content in (b'one', b'one', b'two'):
        teacher.write_bytes(content)
        demo.train(taught, tmp_path / 'out', teacher)
    assert len(demo.commands) == 2 and os.environ['DEMO_TEACHER'] == str(teacher)


def test_the_table_is_markdown(demo):
    results = [dict(name='KD', parameters=5050, accuracy=93.456, seconds=41.7)]
    assert demo.table(results).splitlines() == [
        '| method | student parameters | accuracy % | seconds |', '|---|---:|---:|---:|', '| KD | 5,050 | 93.46 | 42 |']


def test_the_plot_is_a_picture(demo, tmp_path):
    demo.plot({'teacher': [(5, 90.0), (10, 95.0)], 'KD': [(5, 70.0), (10, 92.0)]}, tmp_path / 'a.png')
    assert (tmp_path / 'a.png').read_bytes().startswith(b'\x89PNG')


def test_each_row_has_its_config_and_the_teacher_comes_first(demo):
    assert demo.ROWS[0].config == 'teacher_digits' and not demo.ROWS[0].uses_teacher
    for a_row in demo.ROWS:
        assert (ROOT / 'configs' / 'demo' / f'{a_row.config}.py').is_file()
    assert len({a_row.config for a_row in demo.ROWS}) == len(demo.ROWS)


def test_a_wrong_option_is_one_line(demo, capsys):
    with pytest.raises(SystemExit):
        demo.main(['--outt', 'x'])
    assert capsys.readouterr().err.startswith('error: unrecognized arguments: --outt x')
