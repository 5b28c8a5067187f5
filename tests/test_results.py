"""What the READMEs say came out of our runs is what the published logs say."""
import copy
import gzip
import io
from contextlib import redirect_stdout

import pytest
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.registry import MODELS, DefaultScope

from analysis.pages import LINK, result_lines
from analysis.runs import read_config, read_environment
from analysis.summary import DECISIVE, portable, read_run
from mmkd_atsc import cli
from tests.conftest import ROOT, tool

# Those of configs/weights are of the bundled teachers, which tests/test_checkpoints/test_weights.py compares.
LOGS = sorted(log for log in ROOT.glob('configs/*/logs/*.json.gz') if log.parents[1].name != 'weights')
PAGES = [page for page in (ROOT / 'README.md', *sorted((ROOT / 'configs').rglob('README.md')))
         if result_lines(page.read_text())]
every_log = pytest.mark.parametrize('log', LOGS, ids=lambda log: log.name.split('.')[0])
every_page = pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def config_of(log):
    return log.parent.parent / f'{read_environment(log)["config"]}.py'


@pytest.fixture(scope='module')
def compared():
    """compare.py's line of each published config."""
    lines = {}
    for folder in {log.parent for log in LOGS}:
        printed = io.StringIO()
        with redirect_stdout(printed):
            tool('analysis/compare.py')['main']([str(log) for log in LOGS if log.parent == folder])
        for line in result_lines(printed.getvalue()):
            assert lines.setdefault(folder.parent / f'{line.cells["config"]}.py', line.cells) is line.cells
    return lines


@every_page
def test_a_table_says_what_compare_prints(page, compared):
    """Columns that compare.py has not are the page's own; our method's name may say more than compare.py's."""
    for line in result_lines(page.read_text()):
        if not line.config(page):
            assert 'published' in line.cells.values(), line
            continue
        if not line.cells['seeds']:  # not yet run
            assert not line.cells['last %'] and line.config(page).is_file() and line.config(page) not in compared, line
            continue
        plain = {name: LINK.sub(r'\1', cell) for name, cell in line.cells.items()}
        expected = compared[line.config(page)]
        shared = expected.keys() & plain.keys() - {'method'}
        assert {name: plain[name] for name in shared} == {name: expected[name] for name in shared}
        assert plain['method'].startswith(expected['method']), line
        logs = [(int(seed), (page.parent / log).resolve()) for seed, log in LINK.findall(line.cells['seeds'])]
        assert [read_config(log).randomness.seed for _, log in logs] == [seed for seed, _ in logs]
        assert config_of(logs[0][1]) == line.config(page)
        assert len({read_run(log).identity for _, log in logs}) == 1  # the second of the demo's teachers is a config


def test_every_log_is_in_a_table():
    linked = {(page.parent / log).resolve() for page in PAGES for line in result_lines(page.read_text())
              for _, log in LINK.findall(line.cells['seeds'])}
    assert LOGS and linked == set(LOGS) and ROOT / 'README.md' in PAGES


# What the configs of the papers' pairs say and older logs do not: then it was the default, or the only way.
PAPERS = {
    'mmkd_atsc.AdaptiveTeacherDistill': dict(student_ce_weight=0.0, teacher_lr_mult=1.0),
    'mmkd_atsc.ATSCDistiller': dict(align_weight=1.0, normalize=False, anchor_min_dims=2),
    'mmkd_atsc.AEKTDistiller': dict(gamma=1.0, max_pull=None),
    'mmkd_atsc.AEKTLoss': dict(gamma=1.0, max_pull=None)}


def add_papers_values(model):
    distiller = model.get('distiller', {})
    for part in (model, distiller, *distiller.get('distill_losses', {}).values()):
        for name, value in PAPERS.get(part.get('type'), {}).items():
            part.setdefault(name, value)


def built_and_rest(model):
    """The parameters that a distillation's config is built to, and the config without numbers that are found now."""
    rest = copy.deepcopy(model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = MODELS.build(dict(copy.deepcopy(model), allow_random_teacher=True, teacher_ckpt=None))
    shapes = {key: tuple(value.shape) for key, value in built.state_dict().items()}
    projector = getattr(built.student.neck, 'options', dict)()
    if projector:
        del rest.architecture['neck'], rest.architecture['head']
    for part in (rest.distiller, *rest.distiller.get('connectors', {}).values()):
        for layer in part if isinstance(part, list) else [part]:
            layer.pop('num_classes', None)
    return shapes, projector, getattr(built.student.head, 'aggregate', None), portable(rest)


@every_log
def test_a_log_is_of_the_config_as_it_is(log, monkeypatch):
    for variable, value in (('MMKD_TEACHERS', '/runs'), ('DEMO_TEACHER', '/runs/teacher_digits'),
                            ('DEMO_TEACHER2', '/runs/teacher2_digits')):
        monkeypatch.setenv(variable, value)
    published = read_config(log)
    ours = cli.load_config(str(config_of(log)), {})
    if published.optim_wrapper.type == 'mmkd_atsc.FastOptimWrapper':  # what --fast does where there is a GPU
        ours.optim_wrapper.update(Config.fromfile(ROOT / 'configs' / '_base_' / 'fast.py').fast.optim_wrapper)
    if log.name.startswith('short_dkd'):  # made with MMRazor's loss: the same but in an epoch's last, smaller batch
        ours.model.distiller.distill_losses.loss_dkd = dict(
            type='mmrazor.DKDLoss', tau=4, alpha=1.0, beta=2.0, reduction='sum', loss_weight=1 / 64)
    if '_defaults_' not in log.name:
        add_papers_values(published.model)
    if portable(published.model) != portable(ours.model):  # older configs say what is found now
        assert built_and_rest(published.model) == built_and_rest(ours.model)
        published.model = ours.model
    for name in DECISIVE:
        assert portable(published.get(name)) == portable(ours.get(name)), name


@every_log
def test_a_log_is_whole_small_and_says_where_it_was_made(log):
    assert log.stat().st_size < 100_000
    assert {'device', 'torch', 'python', 'mmengine'} <= read_environment(log).keys()
    text = gzip.decompress(log.read_bytes()).decode()
    assert '/tmp/' not in text and '/home/' not in text


def test_the_metafile_says_what_the_table_does(compared):
    """A mean over the seeds; where a checkpoint is given, the accuracy is of that, and compared with its page."""
    models = load(ROOT / 'configs' / 'short' / 'metafile.yml')['Models']
    assert {ROOT / model['Config'] for model in models} == {path for path in compared if path.parent.name == 'short'}
    for model in models:
        row = compared[ROOT / model['Config']]
        metrics, = [result['Metrics'] for result in model['Results']]
        assert 'Weights' in model or f'{metrics["Top 1 Accuracy"]:.2f}' == row['last %'].split(' ±')[0]
        assert f'{model["Metadata"]["Parameters"]:,}' == row['deployed parameters']
        assert model['Metadata']['Epochs'] == int(row['epochs'])
