"""What a run was is told from its config, what came of it from its log, read in order over resumes."""
import gzip
import json

import pytest
from mmengine.config import Config

from analysis.runs import publish_log, read_config, read_environment, read_scalars
from analysis.summary import method_of, network_name, read_run, teachers_of
from tests.conftest import ROOT
from tests.test_tools.logs import demo_config, lines_of, write_run


@pytest.mark.parametrize('path, method, teachers, student', [
    ('dkd/vgg13_mobilenetv2_cifar100', 'DKD', ['vgg13'], 'mobilenetv2'),
    ('atsc/wrn_40_2_mobilenetv2_cifar100', 'ATSC', ['wrn_40_2'], 'mobilenetv2'),  # without its last convolution
    ('aekt/resnet34_resnet18_imagenet', 'AEKT', ['resnet34'], 'resnet18'),
    ('aekt/multi/resnet32x4_resnet110x2_resnet8x4_cifar100', 'AEKT', ['resnet32x4', 'resnet110x2'], 'resnet8x4'),
    ('atsc/multi/resnet32x4_seeds_resnet8x4_cifar100', 'ATSC', ['resnet32x4'] * 3, 'resnet8x4'),
    ('mix/atsc_aekt_resnet34_resnet18_imagenet', 'ATSC + AEKT', ['resnet34'], 'resnet18'),
    ('mix/aekt_at_resnet34_resnet18_imagenet', 'AEKT + ATLoss', ['resnet34'], 'resnet18'),
    ('fast/aekt_ls_resnet110_resnet32', 'AEKT, standardized logits', ['resnet110'], 'resnet32'),
    ('teachers/wrn_16_2_cifar100', 'no teacher', [], 'wrn_16_2'),
])
def test_method_and_networks_of_our_configs(path, method, teachers, student):
    model = Config.fromfile(ROOT / 'configs' / f'{path}.py').model
    assert method_of(model) == method
    assert [name.lower() for name in teachers_of(model)] == teachers
    assert network_name(model.get('architecture', model)).lower() == student


def test_speed_is_of_all_processes_and_a_resume_counts_no_step_twice(tmp_path):
    lines = lines_of([50.0, 60.0, 55.0], time=0.5)
    write_run(tmp_path, lines[:5], demo_config('kd_digits'), start='20260101_000000')  # killed in the second epoch
    write_run(tmp_path, lines[3:], demo_config('kd_digits'), start='20260102_000000', processes=4)
    run = read_run(tmp_path)
    assert (run.last, run.best, run.done, run.goal, run.seed) == (55.0, 60.0, 3, 40, 0)
    assert run.hours == pytest.approx(60 * 0.5 / 3600)
    batch = demo_config('kd_digits').train_dataloader.batch_size
    assert run.processes == 4 and run.images_per_second == pytest.approx(4 * batch / 0.5)


@pytest.mark.parametrize('changes, same', [
    ({'model.teacher_ckpt': '/elsewhere/work_dirs/teacher_digits/epoch_40.pth'}, True),
    ({'train_dataloader.dataset.data_root': '/elsewhere/data'}, True),
    ({'model.teacher_ckpt': '/home/work_dirs/teacher_digits/epoch_39.pth'}, False),
])
def test_runs_are_alike_that_differ_in_seed_and_place_only(tmp_path, changes, same):
    first = demo_config('kd_digits')
    first.model.teacher_ckpt = '/home/me/teacher_digits/epoch_40.pth'
    second = Config(first.to_dict())
    second.merge_from_dict(changes)
    for name, config in (('a', first), ('b', second)):
        write_run(tmp_path / name, lines_of([50.0]), config)
    assert (read_run(tmp_path / 'a').identity == read_run(tmp_path / 'b').identity) == same


def test_a_published_log_tells_what_the_work_directory_does(tmp_path):
    config = demo_config('atsc_digits', seed=3)
    config.model.teacher_ckpt = f'{tmp_path}/teacher/epoch_40.pth'
    run = write_run(tmp_path / 'run', lines_of([100 / 3, 200 / 3], **{'teacher/drift': 1 / 7}), config)
    log = publish_log(run, tmp_path / 'logs' / 'run.json.gz')
    text = gzip.decompress(log.read_bytes()).decode()
    assert str(tmp_path) not in text and 'work_dir' not in text
    first = json.loads(text)['scalars'][0]
    assert first['teacher/drift'] == 0.142857 and first['step'] == 10

    local, published = read_run(run), read_run(log)
    assert published.last == pytest.approx(local.last, rel=1e-5)
    for field in set(local._fields) - {'last', 'best', 'config'}:
        assert getattr(published, field) == getattr(local, field), field
    # The same log gives the same file, and one that is published can be published.
    content = log.read_bytes()
    assert publish_log(log, log).read_bytes() == publish_log(run, tmp_path / 'again.json.gz').read_bytes() == content


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
