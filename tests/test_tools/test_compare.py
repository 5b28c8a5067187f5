"""The table of runs: seeds averaged, teachers and students told apart, the same from work directories and logs."""
import csv
from pathlib import Path

import pytest

from tests.conftest import refusal, run_here
from tests.test_tools.logs import demo_config, lines_of, write_run

SPEED = f'{2 * demo_config("kd_digits").train_dataloader.batch_size / 0.5:.0f}'


@pytest.fixture
def write(tmp_path):
    def write(name, config, accuracies, seed=0, **changes):
        return write_run(tmp_path / name, lines_of(accuracies), demo_config(config, seed, **changes))
    return write


@pytest.fixture
def runs(write):
    return [write('teacher', 'teacher_digits', [90.0, 97.0]), write('s0/kd', 'kd_digits', [80.0, 91.0]),
            write('alone', 'student_digits', [60.0, 70.0]), write('s1/kd', 'kd_digits', [85.0, 94.0], seed=1),
            write('s2/kd', 'kd_digits', [99.0, 92.5], seed=2),
            write('atsc', 'atsc_digits', [50.0, 93.0], **{'train_cfg.max_epochs': 3})]


def compare(*argv):
    run_here('analysis/compare.py', *argv)


@pytest.fixture
def table(capsys):
    """What compare.py prints, as cells; without the header."""
    def table(*argv):
        capsys.readouterr()
        compare(*argv)
        lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith('| ')]
        return [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[1:]]
    return table


def test_seeds_are_averaged_and_each_run_is_told_by_its_part(runs, tmp_path, table):
    pair = 'resnet20 → CIFARResNet8'
    rest = [SPEED, f'{40 * 0.5 / 3600:.3g}', '2 x NVIDIA H200, torch 2.15.0', 'the_config']
    printed = table(*runs, '--out', tmp_path / 'out')
    assert printed == [
        ['teacher', 'resnet20', '0', '2 of 40', '97.00', '97.00', '272,474', *rest],
        ['KD', pair, '0, 1, 2', '2 of 40', '92.50 ± 1.50', '94.67 ± 4.04', '5,214', *rest],
        ['student alone', 'CIFARResNet8', '0', '2 of 40', '70.00', '70.00', '5,214', *rest],
        ['ATSC', pair, '0', '2 of 3', '93.00', '93.00', '17,726', *rest]]
    assert (tmp_path / 'out' / 'compare.md').read_text().splitlines()[2].startswith('| teacher | resnet20 |')
    assert list(csv.reader((tmp_path / 'out' / 'compare.csv').open()))[1:] == printed
    assert table(runs[0])[0][0] == 'no teacher'  # no other run names it
    # Published, the runs give the same table.
    compare(*runs, '--publish', tmp_path / 'logs')
    names = ('teacher', 's0_kd', 'alone', 's1_kd', 's2_kd', 'atsc')
    assert table(*(tmp_path / 'logs' / f'{name}.json.gz' for name in names)) == printed


def test_what_makes_runs_different_shows(runs, write, table):
    hotter = write('hotter', 'kd_digits', [60.0], **{'model.distiller.distill_losses.loss_kd.tau': 8})
    assert [line[-1] for line in table(*runs, hotter) if line[0] == 'KD'] == [
        'the_config (s0/kd)', 'the_config (hotter)']
    assert table(runs[1], write('short', 'kd_digits', [50.0], seed=4))[0][2:4] == ['0, 4', '1 to 2 of 40']


@pytest.mark.parametrize('argv, word', [
    (['nowhere'], 'nowhere: no such folder'),
    (['{run}', '--metric', 'accuracy/top5'], 'the log has no accuracy/top5; it has'),
    (['{run}', '{run}'], 's0/kd: is given twice'),
])
def test_what_is_wrong_is_said_in_one_line(runs, argv, word, capsys):
    assert word in refusal(capsys, 'analysis/compare.py', *(text.format(run=runs[1]) for text in argv))


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
def page(tmp_path):
    (tmp_path / 'kd').mkdir()
    (tmp_path / 'pages').mkdir()
    (tmp_path / 'kd' / 'the_config.py').touch()
    page = tmp_path / 'pages' / 'README.md'
    page.write_text(PAGE.format(method='KD, ours', seeds='', last='to come', speed=''))
    return page


@pytest.fixture
def seeds(write):
    """Two seeds of a config of two epochs."""
    return [write(f's{seed}/run', 'kd_digits', [50.0, last], seed, **{'train_cfg.max_epochs': 2})
            for seed, last in ((1, 71.0), (0, 70.0))]


def test_pages_are_brought_up_to_date(page, seeds, tmp_path):
    """The page's own words stay, other tables too; a seed links to its published log."""
    logs = tmp_path / 'kd' / 'logs'
    compare(seeds[0], '--publish', logs, '--pages', page)
    assert page.read_text() == PAGE.format(method='KD, ours', seeds='[1](../kd/logs/run.json.gz)', last='71.00',
                                           speed=SPEED)
    page.write_bytes(page.read_bytes().replace(b'\n', b'\r\n'))
    compare(*seeds, '--publish', logs, '--pages', page)
    both = PAGE.format(
        method='KD, ours', seeds='[0](../kd/logs/s0_run.json.gz), [1](../kd/logs/s1_run.json.gz)', last='70.50 ± 0.71',
        speed=SPEED).replace('\n', '\r\n')
    assert page.read_bytes().decode() == both
    with pytest.raises(SystemExit):
        compare(logs / 's0_run.json.gz', '--pages', page)  # alone it would take the other's place


@pytest.mark.parametrize('spoil, words', [
    (lambda page, write: (page.parents[1] / 'kd' / 'the_config.py').unlink(), 'must lie in a folder beside its config'),
    (lambda page, write: write([60.0], 2), '--pages: other is not done, 1 of 2'),
    (lambda page, write: write([60.0, 61.0, 62.0], 3), 'the_config.py was trained in several ways'),
    (lambda page, write: page.write_text(page.read_text().replace('ours |  |', 'ours | [7](x) |')) and None,
     'README.md, line 5: tells of seed 7 too; give the logs of all its seeds'),
])
def test_what_a_page_cannot_tell_is_one_line_and_nothing_is_published(page, seeds, tmp_path, write, capsys, spoil,
                                                                      words):
    more = spoil(page, lambda accuracies, epochs: write('other', 'kd_digits', accuracies, 5, **{
        'train_cfg.max_epochs': epochs}))
    assert words in refusal(capsys, 'analysis/compare.py', *seeds, *[more] * isinstance(more, Path), '--publish',
                            tmp_path / 'kd' / 'logs', '--pages', page)
    assert not (tmp_path / 'kd' / 'logs').exists() and (not page.exists() or 'to come' in page.read_text())
