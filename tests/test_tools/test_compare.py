"""The table of runs: seeds averaged, teachers and students told apart, the same from work directories and logs."""
import csv
from pathlib import Path

import pytest

from tests.conftest import ROOT, tool
from tests.test_readme import python_commands
from tests.test_tools.logs import BY_ITERATIONS, demo_config, lines_by_iterations, lines_of, write_run


@pytest.fixture
def runs(tmp_path):
    def write(name, config, accuracies, seed=0, **changes):
        return str(write_run(tmp_path / name, lines_of(accuracies), demo_config(config, seed, **changes)))

    longer = {'train_cfg.max_epochs': 3}
    return [write('teacher', 'teacher_digits', [90.0, 97.0]), write('s0/kd', 'kd_digits', [80.0, 91.0]),
            write('alone', 'student_digits', [60.0, 70.0]), write('s1/kd', 'kd_digits', [85.0, 94.0], seed=1),
            write('s2/kd', 'kd_digits', [99.0, 92.5], seed=2), write('atsc', 'atsc_digits', [50.0, 93.0], **longer)]


def compare(*argv):
    tool('analysis/compare.py')['main']([str(word) for word in argv])


def table(capsys):
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('| ')]
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]


def test_seeds_are_averaged_and_each_run_is_told_by_its_part(runs, tmp_path, capsys):
    compare(*runs, '--out', tmp_path / 'out')
    printed = table(capsys)
    speed = f'{2 * demo_config("kd_digits").train_dataloader.batch_size / 0.5:.0f}'
    hours = f'{40 * 0.5 / 3600:.3g}'
    pair, rest = 'resnet20 → CIFARResNet8', [speed, hours, '2 x NVIDIA H200, torch 2.15.0', 'the_config']
    assert printed[1:] == [
        ['teacher', 'resnet20', '0', '2 of 40', '97.00', '97.00', '272,474', *rest],
        ['KD', pair, '0, 1, 2', '2 of 40', '92.50 ± 1.50', '94.67 ± 4.04', '5,214', *rest],
        ['student alone', 'CIFARResNet8', '0', '2 of 40', '70.00', '70.00', '5,214', *rest],
        ['ATSC', pair, '0', '2 of 3', '93.00', '93.00', '17,726', *rest]]
    assert (tmp_path / 'out' / 'compare.md').read_text().splitlines()[2].startswith('| teacher | resnet20 |')
    rows = list(csv.DictReader((tmp_path / 'out' / 'compare.csv').open()))
    assert [float(rows[1][key]) for key in ('last', 'last_std', 'runs', 'processes')] == [92.5, 1.5, 3, 2]
    assert rows[0]['last_std'] == '' and rows[1]['teachers'] == 'resnet20'


def test_one_config_with_other_options_is_told_by_the_run(runs, capsys):
    folder = Path(runs[1]).parent / 'hotter'
    write_run(folder, lines_of([60.0]), demo_config('kd_digits', **{'model.distiller.distill_losses.loss_kd.tau': 8}))
    compare(*runs, folder)
    assert [line[-1] for line in table(capsys)[1:] if line[0] == 'KD'] == ['the_config (s0/kd)', 'the_config (hotter)']


def test_a_run_that_no_other_names_has_no_teacher(runs, capsys):
    compare(runs[0])
    assert table(capsys)[1][0] == 'no teacher'


def test_of_two_trainings_in_a_folder_the_last_counts(runs, capsys):
    """40 epochs with the seed 0, and 3 from the start with the seed 5: not '40 of 3'."""
    folder = Path(runs[1]).parent / 'again'
    write_run(folder, lines_of([60.0] * 39 + [90.0]), demo_config('kd_digits'))
    new = demo_config('kd_digits', 5, **{'train_cfg.max_epochs': 3})
    write_run(folder, lines_of([11.0, 12.0, 13.0]), new, start='20260102_000000')
    compare(folder)
    assert table(capsys)[1][2:6] == ['5', '3', '13.00', '13.00']


def test_iterations_are_not_called_epochs(tmp_path, capsys):
    run = write_run(tmp_path / 'run', lines_by_iterations([50.0, 70.0, 60.0]),
                    demo_config('kd_digits', **BY_ITERATIONS))
    compare(run, '--out', tmp_path)
    assert table(capsys)[1][3:6] == ['60 of 80 iterations', '60.00', '70.00']
    row, = csv.DictReader((tmp_path / 'compare.csv').open())
    assert (row['done'], row['goal'], row['unit']) == ('60', '80', 'iterations')


def test_unfinished_seeds_show(runs, tmp_path, capsys):
    short = write_run(tmp_path / 'short', lines_of([50.0]), demo_config('kd_digits', seed=4))
    compare(runs[1], short)
    assert table(capsys)[1][2:4] == ['0, 4', '1 to 2 of 40']


def test_published_logs_give_the_same_table(runs, tmp_path, capsys):
    compare(*runs, '--publish', tmp_path / 'logs')
    before = table(capsys)
    names = ('teacher', 's0_kd', 'alone', 's1_kd', 's2_kd', 'atsc')
    compare(*(tmp_path / 'logs' / f'{name}.json.gz' for name in names))
    assert table(capsys) == before


def test_a_student_that_cannot_be_built_here_has_no_size(tmp_path, capsys):
    run = write_run(tmp_path / 'run', lines_of([50.0]), demo_config('kd_digits', **{'model.architecture': dict(
        _delete_=True, cfg_path='/of/another/machine/student.py')}))
    compare(run)
    assert table(capsys)[1][1:3] + table_size(tmp_path, run) == ['resnet20 → student', '0', '']


def table_size(tmp_path, run):
    compare(run, '--out', tmp_path / 'out')
    return [row['deployed_parameters'] for row in csv.DictReader((tmp_path / 'out' / 'compare.csv').open())]


@pytest.mark.parametrize('argv, word', [
    (['nowhere'], 'nowhere: no such folder'), ([], 'required: RUN'),
    (['{run}', '--metric', 'accuracy/top5'], 'the log has no accuracy/top5; it has'),
    (['{run}', '{run}'], 's0/kd: is given twice'),
])
def test_what_is_wrong_is_said_in_one_line(runs, argv, word, capsys):
    with pytest.raises(SystemExit) as ended:
        compare(*(text.format(run=runs[1]) for text in argv))
    error = capsys.readouterr().err
    assert ended.value.code == 2 and error.startswith('error: ') and error.count('\n') == 1 and word in error


@pytest.mark.parametrize('name', ['analysis/compare.py', 'analysis/plot_run.py', 'analysis/agreement.py',
                                  'benchmark/deploy.py'])
def test_the_readmes_commands_are_ones_that_the_tools_take(name, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools' / 'benchmark'))
    for words in python_commands(ROOT / 'README.md', f'tools/{name}'):
        args = tool(name)['parse_args'](words)
        assert not hasattr(args, 'config') or (ROOT / args.config).is_file()


PAGE = """# Results

| method | seeds | last % | images/s | a \\| b | config |
|---|---|---:|---:|---|---|
| {method} | {seeds} | {last} | {speed} | `x \\| y` | [the config](../kd/the_config.py) |
| KD (its paper) | - | 73.08 | - | ours | published |

```
| method | seeds | last % | config |
| KD | 0 | 1.00 | the_config |
```

| seeds | of something else |
|---|---|
| 0 | [the config](../kd/the_config.py) |"""


@pytest.fixture
def short_runs(tmp_path):
    """Two seeds of a config of two epochs, and the page about them."""
    (tmp_path / 'kd').mkdir()
    (tmp_path / 'pages').mkdir()
    (tmp_path / 'kd' / 'the_config.py').touch()
    page = tmp_path / 'pages' / 'README.md'
    page.write_text(PAGE.format(method='KD, ours', seeds='', last='to come', speed=''))
    return page, [write_run(tmp_path / f's{seed}' / 'run', lines_of([50.0, last]), demo_config('kd_digits', seed, **{
        'train_cfg.max_epochs': 2})) for seed, last in ((1, 71.0), (0, 70.0))]


def test_pages_are_brought_up_to_date(short_runs, tmp_path):
    """The page's own words stay, other tables too; a seed links to its published log."""
    page, runs = short_runs
    compare(runs[0], '--publish', tmp_path / 'kd' / 'logs', '--pages', page)
    speed = f'{2 * demo_config("kd_digits").train_dataloader.batch_size / 0.5:.0f}'
    assert page.read_text() == PAGE.format(method='KD, ours', seeds='[1](../kd/logs/run.json.gz)', last='71.00',
                                           speed=speed)
    page.write_bytes(page.read_bytes().replace(b'\n', b'\r\n'))
    compare(*runs, '--publish', tmp_path / 'kd' / 'logs', '--pages', page)
    both = PAGE.format(
        method='KD, ours', seeds='[0](../kd/logs/s0_run.json.gz), [1](../kd/logs/s1_run.json.gz)', last='70.50 ± 0.71',
        speed=speed).replace('\n', '\r\n')
    assert page.read_bytes().decode() == both
    logs = [tmp_path / 'kd' / 'logs' / f's{seed}_run.json.gz' for seed in (0, 1)]
    compare(*logs, '--pages', page)
    assert page.read_bytes().decode() == both
    with pytest.raises(SystemExit):
        compare(logs[0], '--pages', page)  # alone it would take the other's place
    assert page.read_bytes().decode() == both


def test_a_page_without_a_line_for_a_config_is_said_and_left(short_runs, tmp_path, capsys):
    page, runs = short_runs
    page.write_text(page.read_text().replace('kd/the_config', 'dkd/the_config'))
    before = page.read_text()
    compare(*runs, '--publish', tmp_path / 'kd' / 'logs', '--pages', page)
    assert f'{page}: has no line for the_config.py' in capsys.readouterr().out
    assert page.read_text() == before


def another(tmp_path, epochs, accuracies, seed=5):
    return write_run(tmp_path / 'other', lines_of(accuracies), demo_config('kd_digits', seed, **{
        'train_cfg.max_epochs': epochs}))


@pytest.mark.parametrize('spoil, words', [
    (lambda page, path: [page.rename(path / 'gone.md')], 'README.md: no such file'),
    (lambda page, path: [(path / 'kd' / 'the_config.py').unlink()], 'must lie in a folder beside its config'),
    (lambda page, path: [another(path, 2, [60.0])], '--pages: other is not done, 1 of 2'),
    (lambda page, path: [another(path, 3, [60.0, 61.0, 62.0])], 'the_config.py was trained in several ways'),
    (lambda page, path: [page.write_text(page.read_text().replace('ours |  |', 'ours | [7](x) |'))],
     'README.md, line 5: tells of seed 7 too; give the logs of all its seeds'),
])
def test_what_a_page_cannot_tell_is_one_line_and_nothing_is_published(short_runs, tmp_path, capsys, spoil, words):
    page, runs = short_runs
    more = [run for run in spoil(page, tmp_path) if isinstance(run, Path) and run.name == 'other']
    with pytest.raises(SystemExit):
        compare(*runs, *more, '--publish', tmp_path / 'kd' / 'logs', '--pages', page)
    assert words in capsys.readouterr().err
    assert not (tmp_path / 'kd' / 'logs').exists() and (not page.exists() or 'to come' in page.read_text())
