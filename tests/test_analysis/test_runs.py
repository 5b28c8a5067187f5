"""What a run logged is read back in order, also over a resume."""
import json

import pytest

from mmkd_atsc.analysis.runs import find_metric, read_scalars


def write_log(work_dir, name, *lines):
    file = work_dir / name / 'vis_data' / 'scalars.json'
    file.parent.mkdir(parents=True)
    file.write_text('\n'.join(map(json.dumps, lines)) + '\n\n')


def test_a_resumed_run_is_read_in_order(tmp_path):
    write_log(tmp_path, '20260102_000000', {'accuracy/top1': 30.0, 'step': 3})
    write_log(tmp_path, '20260101_000000', {'loss': 1.0, 'step': 5}, {'accuracy/top1': 10.0, 'step': 1})
    scalars = read_scalars(tmp_path)
    assert [line['step'] for line in scalars] == [5, 1, 3]
    assert find_metric(scalars, 'accuracy/top1') == [(1, 10.0), (3, 30.0)]


def test_an_epoch_validated_again_after_a_resume_counts_once_the_later(tmp_path):
    lines = [{'accuracy/top1': 10.0, 'step': 1}, {'accuracy/top1': 20.0, 'step': 2}, {'accuracy/top1': 25.0, 'step': 2}]
    assert find_metric(lines, 'accuracy/top1') == [(1, 10.0), (2, 25.0)]


def test_the_students_own_metric_goes_first():
    lines = [{'teacher/accuracy/top1': 99.0, 'student/accuracy/top1': 50.0, 'accuracy/top1': 1.0, 'step': 1}]
    assert find_metric(lines, 'accuracy/top1') == [(1, 50.0)]
    assert find_metric(lines, 'teacher/accuracy/top1') == [(1, 99.0)]


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='no log of a run'):
        read_scalars(tmp_path)
    with pytest.raises(ValueError, match='the log has no accuracy/top1; it has loss, step'):
        find_metric([{'loss': 1.0, 'step': 1}], 'accuracy/top1')
