"""What TensorBoard and MLflow get of a training is what scalars.json has."""
from importlib.util import find_spec

import pytest

from tests.conftest import ROOT, run_here, scalars

WATCHED = """
_base_ = ['{demo}/atsc_digits.py']
model = dict(teacher=dict(backbone=dict(depth=8)), teacher_ckpt=None, allow_random_teacher=True)
train_cfg = dict(max_epochs=1, val_interval=1)
custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook', start=0, interval=1)]
default_hooks = dict(logger=dict(interval=3))
visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), *[dict(type=name) for name in {backends}]])
"""


def of_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(folder), size_guidance=dict(scalars=0)).Reload()
    return [(name, event.step, event.value) for name in events.Tags()['scalars'] for event in events.Scalars(name)]


def of_mlflow(folder):
    from mlflow import MlflowClient
    client = MlflowClient(f'file://{folder}')
    run, = client.search_runs([client.get_experiment_by_name('Default').experiment_id])
    return [(name, metric.step, metric.value) for name in run.data.metrics
            for metric in client.get_metric_history(run.info.run_id, name)]


def test_every_scalar_arrives_by_name_step_and_value(tmp_path, monkeypatch, in_process):
    monkeypatch.setenv('MLFLOW_ALLOW_FILE_STORE', 'true')
    readers = dict(TensorboardVisBackend=of_tensorboard)
    if find_spec('mlflow'):  # CI has none
        readers['MLflowVisBackend'] = of_mlflow
    (tmp_path / 'watched.py').write_text(WATCHED.format(demo=ROOT / 'configs' / 'demo', backends=list(readers)))
    run_here('train.py', tmp_path / 'watched.py', '--work-dir', tmp_path / 'run')
    expected = sorted((name, line['step'], value) for line in scalars(tmp_path / 'run')
                      for name, value in line.items() if name != 'step')
    assert {'lr', 'distill.loss_align', 'student/accuracy/top1', 'teacher/accuracy/top1', 'teacher/drift',
            'teacher/drift.layer1'} < {name for name, _, _ in expected}
    folder, = tmp_path.glob('run/*/vis_data')
    for read in readers.values():
        got = sorted(read(folder))
        assert [entry[:2] for entry in got] == [entry[:2] for entry in expected]
        assert [entry[2] for entry in got] == pytest.approx([entry[2] for entry in expected], rel=1e-6)
