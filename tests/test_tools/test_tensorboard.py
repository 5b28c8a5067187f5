"""TensorBoard shows what the JSON log holds, by config alone."""
import json

import pytest

from tests.test_runtime.toy_training import batches, toy_runner


@pytest.mark.usefixtures('in_process')
def test_tensorboard_holds_the_scalars_of_the_log(tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    toy_runner(tmp_path, batches(8), validate=True, visualizer=dict(type='Visualizer', vis_backends=backends)).train()
    log, = tmp_path.glob('*/vis_data/scalars.json')
    logged = {(key, line['step'], float(f'{value:.6g}')) for line in map(json.loads, log.open())
              for key, value in line.items() if key != 'step'}
    events = EventAccumulator(str(log.parent), size_guidance=dict(scalars=0)).Reload()
    shown = {(key, event.step, float(f'{event.value:.6g}')) for key in events.Tags()['scalars']
             for event in events.Scalars(key)}
    assert {(key, step) for key, step, _ in logged} == {(key, step) for key, step, _ in shown}
    assert any(key == 'loss' for key, *_ in logged) and any(key == 'toy/acc' for key, *_ in logged)
    for key in ('loss', 'lr', 'toy/acc'):
        by_step = [{step: value for name, step, value in rows if name == key} for rows in (logged, shown)]
        assert by_step[1] == pytest.approx(by_step[0], rel=1e-5)
