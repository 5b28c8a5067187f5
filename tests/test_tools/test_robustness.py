"""The grid that looks for harm: every method trains, nothing is trained twice, the table says what is worse."""
import gzip
import json

import pytest

from analysis import robustness
from analysis.small_tasks import METHODS, TASKS, Task, config_text

TINY = Task(10, 96, 'resnet8_tiny', 1, 48, 0.05, teacher='resnet8', teacher_epochs=1, digits=True)
VARIANT = 'gentle:aekt:model.distiller.beta=1.0'


@pytest.fixture(scope='module')
def grid(tmp_path_factory):
    """A folder in which each method and a variant was trained on a tiny task."""
    out = tmp_path_factory.mktemp('grid')
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, 'tiny', TINY)
        robustness.main(['--out', str(out), '--tasks', 'tiny', '--seeds', '0', '--variant', VARIANT])
        yield out


def test_every_method_is_trained_and_scored(grid):
    results = [json.loads(file.read_text()) for file in (grid / 'runs').glob('*.json')]
    assert {result['label'] for result in results} == {*METHODS, 'gentle'}
    assert not any(result['error'] for result in results)
    assert all(0 <= result['accuracy'] <= 100 and result['log'] for result in results)
    assert [result['teacher'] is not None for result in results if result['method'] == 'atsc'] == [True]


def test_what_is_there_is_not_made_again(grid, capsys, tmp_path):
    before = {file: file.read_bytes() for file in (grid / 'runs').iterdir()}
    file = tmp_path / 'results.json.gz'
    robustness.main(['--out', str(grid), '--tasks', 'tiny', '--seeds', '0', '--variant', VARIANT, '--save', str(file)])
    assert {file: file.read_bytes() for file in (grid / 'runs').iterdir()} == before
    printed = capsys.readouterr().out
    assert printed.startswith('| task | seeds | teacher | alone | kd | dkd | aekt | simkd | atsc | gentle |')
    assert len(json.loads(gzip.decompress(file.read_bytes()))['results']) == len(METHODS) + 1


def test_the_table_marks_harm_and_failures_and_compares_equal_seeds():
    def run(label, accuracy, error='', seed=0):
        return dict(task='c10_r8_sgd10_94', label=label, method=label, seed=seed, accuracy=accuracy, error=error)

    rows = robustness.table([run('alone', 80.0), run('alone', 82.0, seed=1), run('kd', 79.2), run('aekt', None, 'nan'),
                             run('simkd', 84.0), run('atsc', 83.0), run('atsc', 84.0, seed=1)], {}).splitlines()
    assert rows[2] == '| c10_r8_sgd10_94 | 1-2 | 0.0 | 81.0 | **-0.8** | failed | +4.0 | +2.5 | **-1.0** |'
    assert rows[-1] == '| runs that failed |  |  |  | 0 | 1 | 0 | 0 |  |'


@pytest.mark.parametrize('method', METHODS)
def test_a_config_takes_the_methods_defaults(method):
    text = config_text(TASKS['c20_convnext_adamw'], method, 'teacher.pth')
    assert 'beta' not in text and 'weight=' not in text and 'epochs=20' not in text
