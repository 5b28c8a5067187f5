"""What the READMEs say came out of our runs is what the published logs say."""
import io
import re
from contextlib import redirect_stdout

import pytest
import torch
from mmengine.fileio import load
from mmengine.hub import get_model

from mmkd_atsc import cli
from mmkd_atsc.analysis.runs import read_config, read_environment
from mmkd_atsc.analysis.summary import DECISIVE, portable
from mmkd_atsc.engine.checkpoint import read_weights
from mmkd_atsc.models.teacher import Teacher
from tests.conftest import ROOT
from tests.test_analysis.logs import tool

LOGS = sorted(path.parent for path in ROOT.glob('configs/*/logs/*/scalars.json.gz'))
LINK = re.compile(r'\[([^\]]*)\]\(([^)\s]+)\)')
every_log = pytest.mark.parametrize('log', LOGS, ids=lambda log: log.name)


def read_tables(text):
    """The rows of a text's tables as dictionaries; those of compare.py's are known by their columns."""
    header, rows = None, []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line[1:-1].split(' | ')] if line.startswith('|') else None
        if header and cells and not set(line) <= set('|-: '):
            rows.append(dict(zip(header, cells)))
        header = cells and (header or cells)
    return [row for row in rows if {'seeds', 'last %', 'config'} <= row.keys()]


PAGES = [page for page in (ROOT / 'README.md', *sorted((ROOT / 'configs').rglob('README.md')))
         if read_tables(page.read_text())]


@pytest.fixture(scope='module')
def compared():
    """compare.py's row of each published config."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        for folder in {log.parent for log in LOGS}:
            tool('analysis/compare.py')['main']([str(log) for log in LOGS if log.parent == folder])
    return {row['config']: row for row in read_tables(printed.getvalue())}


def test_there_are_results():
    assert LOGS and ROOT / 'README.md' in PAGES


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_table_says_what_compare_prints(page, compared):
    """Columns that compare.py has not are the page's own; our method's name may say more than compare.py's."""
    for row in read_tables(page.read_text()):
        plain = {name: LINK.sub(r'\1', cell) for name, cell in row.items()}
        expected = compared[plain['config']]
        assert {name: plain[name] for name in expected.keys() & plain.keys() - {'method'}} == {
            name: cell for name, cell in expected.items() if name in plain and name != 'method'}
        assert plain['method'].startswith(expected['method']), row
        (_, config), = LINK.findall(row['config'])
        assert (page.parent / config).is_file() and config.endswith(f'{plain["config"]}.py')
        for seed, log in LINK.findall(row['seeds']):
            assert read_config(page.parent / log).randomness.seed == int(seed)
            assert read_environment(page.parent / log)['config'] == plain['config']


def test_every_log_is_in_a_table():
    linked = {(page.parent / log).resolve() for page in PAGES for row in read_tables(page.read_text())
              for _, log in LINK.findall(row['seeds'])}
    assert linked == set(LOGS)


@every_log
def test_a_log_is_of_the_config_as_it_is(log, monkeypatch):
    monkeypatch.setenv('MMKD_TEACHERS', '/runs')
    published = read_config(log)
    ours = cli.load_config(str(log.parent.parent / f'{read_environment(log)["config"]}.py'), {})
    cli.add_training_hooks(ours)
    for name in DECISIVE:
        assert portable(published.get(name)) == portable(ours.get(name)), name


@every_log
def test_a_log_is_whole_small_and_says_where_it_was_made(log):
    assert sum(file.stat().st_size for file in log.iterdir()) < 200_000
    assert {'device', 'torch', 'python', 'mmengine'} <= read_environment(log).keys()
    assert '/tmp/' not in (log / 'config.py').read_text() and '/home/' not in (log / 'config.py').read_text()


def test_the_metafile_says_what_the_table_does(compared):
    """A mean over the seeds; where a checkpoint is given, the accuracy of that."""
    models = load(ROOT / 'configs' / 'short' / 'metafile.yml')['Models']
    assert {model['Name'] for model in models} == {f'short_{name}' for name in compared}
    for model in models:
        row = compared[model['Name'][len('short_'):]]
        metrics, = [result['Metrics'] for result in model['Results']]
        expected = row['last %'].split(' ±')[0]
        if 'Weights' in model:
            file = model['Weights'].partition('weights/')[2]
            expected, = re.findall(rf'\({file}\).* \| ([\d.]+) \|', (ROOT / 'configs/weights/README.md').read_text())
        assert f'{metrics["Top 1 Accuracy"]:.2f}' == expected
        assert f'{model["Metadata"]["Parameters"]:,}' == row['deployed parameters']
        assert model['Metadata']['Epochs'] == int(row['epochs'])


def test_the_hub_brings_the_teacher_with_its_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ours = read_weights('mmkd_atsc::weights/short_resnet20/epoch_12.pth')
    model = get_model('mmkd_atsc::short/resnet20.py', pretrained=True)
    teacher = Teacher(dict(cfg_path='mmkd_atsc::short/resnet20.py', pretrained=True))
    for network in model, teacher.model:
        assert all(torch.equal(value, ours[key].to(value.dtype)) for key, value in network.state_dict().items())
