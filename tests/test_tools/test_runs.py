"""What a run logged is read back in order, also over a resume."""
import gzip
import json

import pytest

from analysis.runs import read_config, read_environment, read_scalars
from tests.test_tools.logs import demo_config, lines_of, write_run


def write_log(work_dir, name, *lines):
    file = work_dir / name / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text('\n'.join(map(json.dumps, lines)) + '\n\n')
    return file


@pytest.mark.parametrize('interval, length', [(10, 20), (15, 40)])
def test_a_training_from_the_start_leaves_out_what_was_there(tmp_path, interval, length):
    """Scalars, config and environment alike; a resumed run goes on, whichever interval it logs."""
    old, new = lines_of([80.0, 90.0], 10), lines_of([11.0, 12.0, 13.0], interval, length)
    half = len(new) * 2 // 3
    for day, (lines, seed) in enumerate([(old, 1), (new[:half], 2), (new[half:], 3)], start=1):
        write_run(tmp_path, lines, demo_config('kd_digits', seed=seed), f'2026010{day}_000000', processes=seed)
        assert read_scalars(tmp_path) == [old, new[:half], new][day - 1]
        assert read_config(tmp_path).randomness.seed == seed
    log = next(tmp_path.glob('20260101_000000/*.log'))
    log.write_text(log.read_text().replace('Python: ', 'Compiler: cc\n    MMEngine: 0.1\n    Python: '))
    assert 'mmengine' not in read_environment(tmp_path)


@pytest.mark.parametrize('steps, begins_anew', [([100, 200], True), ([150], False), ([], False)])
def test_a_training_by_iterations_begins_with_its_first_interval(tmp_path, steps, begins_anew):
    old = [dict(loss=1.0, iter=step, step=step) for step in (100, 200)]
    new = [dict(loss=0.5, iter=step, step=step) for step in steps]
    write_log(tmp_path, '20260101_000000', *old)
    write_log(tmp_path, '20260102_000000', *new)
    assert read_scalars(tmp_path) == (new if begins_anew else old + new)


def test_the_half_line_of_a_killed_run_is_left_out_and_any_other_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no log of a run'):
        read_scalars(tmp_path)
    log = write_log(tmp_path, 'a')
    log.write_text('{"loss": 1.0, "iter": 5, "step": 5}\n{"loss": 0.9, "it')
    assert read_scalars(tmp_path) == [{'loss': 1.0, 'iter': 5, 'step': 5}]
    log.write_text('{"loss": 1.0\n{"loss": 0.9, "step": 9}\n')
    with pytest.raises(ValueError, match=r'scalars.json: line 1 is no JSON: .\{"loss": 1.0'):
        read_scalars(tmp_path)
    published = tmp_path / 'run.json.gz'
    published.write_bytes(gzip.compress(b'{"scalars": ['))
    with pytest.raises(ValueError, match=f'{published}: is not a whole log'):
        read_scalars(published)
