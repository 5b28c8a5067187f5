"""The tools that show AEKT: the gradient curves, the serialization layer's weights, the loss benchmark."""
import csv

import pytest
import torch

from tests.conftest import refusal, tool

pytest.importorskip('matplotlib')


def rows(path):
    with path.open(newline='', encoding='utf-8') as file:
        return list(csv.DictReader(file))


def assert_picture(path, least_size):
    """A PNG of at least this many pixels a side, with something drawn on it."""
    import matplotlib.image
    image = matplotlib.image.imread(path)
    assert path.read_bytes()[:8] == b'\x89PNG\r\n\x1a\n' and min(image.shape[:2]) >= least_size
    assert image[..., :3].std() > 0.05


# ---------------------------------------------------------------- the gradient curves


@pytest.fixture(scope='module')
def gradient_table(tmp_path_factory):
    out = tmp_path_factory.mktemp('gradient') / 'new' / 'folder'
    tool('analysis/aekt_gradient.py')['main'](['--tau', '3', '--teacher', '0.2', '0.8', '--max-ratios', 'none', '2',
                                               '0.5', '--out', str(out)])
    assert_picture(out / 'aekt_gradient.png', 500)
    return rows(out / 'aekt_gradient.csv')


def expected_pull(row):
    """d loss / d u_t by hand: the terms' derivatives by the target's log-odds, times tau."""
    p, q = float(row['student_confidence']), float(row['teacher_confidence'])
    if row['loss'] != 'AEKT':
        return 3 * (p - q)
    weight = min(q / p, float('inf') if row['max_ratio'] == 'none' else float(row['max_ratio']))
    return 3 * (p - q - weight * (1 - p if row['target_form'] == 'ratio' else 1))


def test_gradient_table_equals_the_formulas(gradient_table):
    assert len(gradient_table) == 197 * 2 * (2 + 2 * 3)
    for row in gradient_table:
        assert float(row['gradient']) == pytest.approx(expected_pull(row), rel=1e-6, abs=1e-7), row


@pytest.mark.parametrize('arguments, word', [
    (['--tau', '0'], '--tau=0.0 must be a number greater than 0'),
    (['--max-ratios', 'nine'], '--max-ratios nine must be a number greater than 0, or none'),
])
def test_gradient_tool_refuses_bad_arguments_in_one_line(arguments, word, tmp_path, capsys):
    assert word in refusal(capsys, 'analysis/aekt_gradient.py', *arguments, '--out', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


# ---------------------------------------------------------------- the serialization layer

NAMES = ['ant', 'bee', 'cat', 'dog', 'eel']
MATRIX = torch.tensor([[1.0, 0.1, -0.2, 0.3, -0.4],
                       [0.0, 1.5, 0.0, 0.0, 0.25],
                       [0.5, -2.0, 0.75, 0.125, -0.5],
                       [0.0, 0.0, 0.0, 1.0, 0.0],
                       [0.1, 0.2, 0.3, 0.4, 1.0]])
KEY = 'distiller.connectors.student_logits.fc.weight'


def save(path, weights, **meta):
    torch.save(dict(state_dict=weights, meta=meta), path)
    return str(path)


@pytest.fixture
def checkpoint(tmp_path):
    return save(tmp_path / 'epoch_1.pth', {KEY: MATRIX, KEY.replace('weight', 'bias'): torch.zeros(5),
                                           'architecture.head.fc.weight': torch.eye(5), 'x.weight': torch.zeros(5, 3)},
                dataset_meta=dict(classes=NAMES))


def test_class_table_holds_the_largest_weights_in_order(checkpoint, tmp_path, capsys):
    tool('analysis/serialization_fc.py')['main']([checkpoint, '--class', 'cat', '--top', '4', '--out', str(tmp_path)])
    table = rows(tmp_path / 'serialization_fc_class2.csv')
    assert [(row['output_class'], row['rank'], row['input_index'], row['input_class'], float(row['weight']))
            for row in table] == [('cat', '1', '1', 'bee', -2.0), ('cat', '2', '2', 'cat', 0.75),
                                  ('cat', '3', '0', 'ant', 0.5), ('cat', '4', '4', 'eel', -0.5)]
    assert_picture(tmp_path / 'serialization_fc.png', 800)
    assert_picture(tmp_path / 'serialization_fc_class2.png', 300)
    assert f'{KEY}: 5 classes' in capsys.readouterr().out


def test_refusals_are_one_line(checkpoint, tmp_path, capsys):
    few_names = tmp_path / 'few.txt'
    few_names.write_text('one\ntwo')
    for arguments, words in (
            (['--class', 'cap'], "--class cap is no class name and no number from 0 to 4; did you mean 'cat'?"),
            (['--classes', str(few_names)], 'there are 2 class names for a layer of 5 classes'),
            (['--classes', 'cifar-100'], 'no such file, and not one of cifar10, cifar100, imagenet')):
        assert words in refusal(capsys, 'analysis/serialization_fc.py', checkpoint, *arguments, '--out',
                                tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


class Payload:

    def __reduce__(self):
        return pytest.fail, ('the checkpoint ran code', )


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, capsys):
    torch.save(dict(state_dict={KEY: MATRIX}, payload=Payload()), tmp_path / 'hostile.pth')
    assert 'hostile.pth' in refusal(capsys, 'analysis/serialization_fc.py', tmp_path / 'hostile.pth', '--out',
                                    tmp_path / 'out')


# ---------------------------------------------------------------- the benchmark


def test_benchmark_prints_a_row_a_shape_and_its_environment(capsys):
    threads = torch.get_num_threads()
    try:
        tool('benchmark/losses.py')['main'](['--shapes', '4x10', '8x5', '--repeats', '1', '--threads', '1'])
    finally:
        torch.set_num_threads(threads)
    output = capsys.readouterr().out
    assert f'torch {torch.__version__}, Python' in output and ', 1 thread, ' in output
    table = [line for line in output.splitlines() if line.startswith('|')]
    assert len(table) == 4 and {line.count('|') for line in table} == {12}
    assert [line.split('|')[1].strip() for line in table[2:]] == ['4x10', '8x5']
    assert all(float(cell) > 0 for line in table[2:] for cell in line.split('|')[2:6])


def test_an_aekt_step_launches_no_more_than_a_step_of_dkd():
    benchmark = tool('benchmark/losses.py')
    launches = {name: benchmark['count_launches'](step) for name, step in benchmark['make_steps'](64, 100).items()}
    assert 30 < launches['AEKTLoss'] <= launches['DKDLoss']


@pytest.mark.parametrize('shape', [(16, 21841)])
def test_aekt_needs_at_most_two_thirds_of_dkds_memory(shape):
    benchmark = tool('benchmark/losses.py')
    steps = benchmark['make_steps'](*shape)
    assert 0 < benchmark['peak_memory'](steps['AEKTLoss']) <= benchmark['peak_memory'](steps['DKDLoss']) * 2 / 3
