"""The picture of runs shows each value of the logs, in the colour of its run."""
import pytest

from analysis.plot_run import plot_runs
from analysis.runs import publish_log
from tests.conftest import refusal, run_here
from tests.test_tools.logs import demo_config, lines_of, write_run

pytest.importorskip('matplotlib')
TERMS = {'distill.loss_align': 2.0, 'teacher/drift': 0.1, 'teacher/drift.layer1': 0.2}


@pytest.fixture
def drawn(monkeypatch):
    """The lines of each panel by label, as (points, colour, dashes)."""
    from matplotlib.figure import Figure
    panels = {}

    def look(figure, path, **options):
        for axes in figure.axes:
            panels[axes.get_title()] = {line.get_label(): (list(map(tuple, line.get_xydata().tolist())),
                                                           line.get_color(), line.get_linestyle())
                                        for line in axes.get_lines()}

    monkeypatch.setattr(Figure, 'savefig', look)
    return panels


def test_one_run_shows_all_that_it_logged_and_several_a_colour_each(drawn, tmp_path):
    plot_runs({'run': lines_of([50.0, 60.0], **TERMS)}, tmp_path / 'a.png')
    loss, accuracy, drift, rate = drawn.values()
    # Ten and twenty iterations of an epoch of twenty, as parts of the epoch.
    assert loss['loss'][0] == [(0.5, 0.3), (1.0, 0.15), (1.5, 0.1), (2.0, 0.075)]
    assert list(loss) == ['loss', 'distill.loss_align'] and list(drift) == ['teacher', 'teacher.layer1']
    assert accuracy['student'][0] == [(1, 50), (2, 60)] and accuracy['teacher'][0] == [(1, 75), (2, 75)]
    assert [value for _, value in rate['run'][0]] == [0.1, 0.1, 0.05, 0.05]

    plot_runs({'a': lines_of([50.0], **TERMS), 'b': lines_of([70.0, 80.0])}, tmp_path / 'a.png')
    loss, accuracy, drift, rate = drawn.values()
    assert list(loss) == list(rate) == ['a', 'b'] and list(drift) == ['a teacher']
    assert {label: color for label, (_, color, _) in accuracy.items()} == {
        'a': 'C0', 'a teacher': 'C0', 'b': 'C1', 'b teacher': 'C1'} and loss['b'][1] == 'C1'
    assert accuracy['a'][2] == '-' != accuracy['a teacher'][2]


def test_the_tool_draws_work_directories_and_published_logs(tmp_path, capsys):
    run = write_run(tmp_path / 'run', lines_of([50.0], **TERMS), demo_config('kd_digits'))
    out = tmp_path / 'new' / 'both.png'
    run_here('analysis/plot_run.py', run, publish_log(run, tmp_path / 'log.json.gz'), '--out', out)
    import matplotlib.image
    assert capsys.readouterr().out == f'{out}\n' and matplotlib.image.imread(out)[..., :3].std() > 0.05
    assert 'its ending must be one of' in refusal(capsys, 'analysis/plot_run.py', run, '--out', f'{run}.txt')
