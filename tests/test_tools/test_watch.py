"""What TensorBoard and MLflow get of a training is what scalars.json has."""
from importlib.util import find_spec

import pytest

from tests.conftest import ROOT, refusal, run_here, scalars

WATCHED = """
_base_ = ['{demo}/atsc_digits.py']
model = dict(teacher=dict(backbone=dict(depth=8)), teacher_ckpt=None, allow_random_teacher=True)
train_cfg = dict(max_epochs=1)
custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook', start=0, interval=1)]
default_hooks = dict(logger=dict(interval=3))
visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), *[dict(type=name) for name in {backends}]])
"""


def config_with(tmp_path, *backends):
    config = tmp_path / 'watched.py'
    config.write_text(WATCHED.format(demo=ROOT / 'configs' / 'demo', backends=backends))
    return config


def of_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(folder), size_guidance=dict(scalars=0)).Reload()
    return [(name, event.step, event.value) for name in events.Tags()['scalars'] for event in events.Scalars(name)]


def of_mlflow(folder):
    from mlflow import MlflowClient
    client = MlflowClient(f'file://{folder}')
    run, = client.search_runs([client.get_experiment_by_name('Default').experiment_id])
    assert run.info.status == 'FINISHED' and run.data.params['train_cfg.max_epochs'] == '1'
    return [(name, metric.step, metric.value) for name in run.data.metrics
            for metric in client.get_metric_history(run.info.run_id, name)]


READERS = dict(TensorboardVisBackend=('tensorboard', of_tensorboard), MLflowVisBackend=('mlflow', of_mlflow))


def test_every_scalar_arrives_by_name_step_and_value(tmp_path, monkeypatch, in_process):
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    found = {name: read for name, (package, read) in READERS.items() if find_spec(package)}
    assert 'TensorboardVisBackend' in found, 'the extra "dev" has tensorboard; mlflow may be missing'
    run_here('train.py', config_with(tmp_path, *found), '--work-dir', tmp_path / 'run', '--cfg-options',
             'train_cfg.val_interval=1')
    expected = sorted((name, line['step'], value) for line in scalars(tmp_path / 'run')
                      for name, value in line.items() if name != 'step')
    names = {name for name, _, _ in expected}
    assert {'lr', 'loss', 'distill.loss_align', 'student/accuracy/top1', 'teacher/accuracy/top1',
            'teacher/drift', 'teacher/drift.layer1'} < names
    folder, = tmp_path.glob('run/*/vis_data')
    for read in found.values():
        got = sorted(read(folder))
        assert [entry[:2] for entry in got] == [entry[:2] for entry in expected]
        assert [entry[2] for entry in got] == pytest.approx([entry[2] for entry in expected], rel=1e-6)


def test_a_package_that_is_missing_is_one_line(tmp_path, capsys, in_process):
    assert 'pip install aim' in refusal(capsys, 'train.py', config_with(tmp_path, 'AimVisBackend'), '--work-dir',
                                        tmp_path / 'run')
