"""The suites' rows are configs that are there, in an order that can be trained; the demo exports its best student."""
from pathlib import Path

import pytest
from mmengine.config import Config

from analysis.suite import Row, parse_options
from tests.conftest import ROOT, refusal
from tests.test_export.trained import method_config, train
from tools import demo, reproduce


@pytest.mark.parametrize('name', ['digits', 'cifar100-cpu', 'cifar100'])
def test_rows_read_the_checkpoints_of_the_rows_they_need(name, tmp_path, monkeypatch):
    suite = reproduce.SUITES[name]
    for variable, value in suite.environment(tmp_path).items():
        monkeypatch.setenv(variable, value)
    rows = suite.rows([0, 1])
    folders = [row.folder for row in rows]
    assert len(set(folders)) == len(folders)
    configs = {path: Config.fromfile(path) for path in {row.config for row in rows}}
    for position, row in enumerate(rows):
        assert set(row.needs) <= set(folders[:position])
        given = configs[row.config].model.get('teacher_ckpt') or {}
        given = list(given.values()) if isinstance(given, dict) else [given]
        read = {str(tmp_path / need) for need in row.needs}
        # The digits' rows wait for both teachers, whether they have one or two.
        assert set(given) <= read and (set(given) == read or name == 'digits'), row
    assert {parse_options(row.options).get('randomness.seed') for row in rows if row.needs} == {0, 1}


@pytest.mark.parametrize('arguments, words', [
    (['digits', '--workers', '0'], '--workers=0 must be an integer at least 1'),
    (['digits', '--held-out'], 'is for the suites on CIFAR'),
    (['cifar100-cpu', '--rows', 'mobilenet'], '--rows mobilenet: there is no such row; there are short_resnet20'),
])
def test_wrong_arguments_are_one_line(arguments, words, tmp_path, capsys):
    assert words in refusal(capsys, 'reproduce.py', *arguments, '--out', tmp_path)


def test_options_and_the_held_out_images_are_every_rows_and_those_it_needs(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(reproduce, 'run_suite', lambda rows, *args, **environment: seen.extend(rows) or [])
    reproduce.main(['cifar100-cpu', '--out', str(tmp_path), '--rows', 'short_aekt_resnet*', '--seeds', '0',
                    '--held-out', '--cfg-options', 'train_cfg.max_epochs=2'])
    assert [row.folder for row in seen] == ['short_resnet20', 'short_aekt_resnet20_resnet8']
    for row in seen:
        config = Config.fromfile(row.config)
        config.merge_from_dict(parse_options(row.options))
        train, val = config.train_dataloader.dataset, config.val_dataloader.dataset
        assert (train.split, train.indices, val.split, val.indices) == ('train', 45000, 'train', -5000)
        assert config.train_cfg.max_epochs == 2


def test_the_fast_rows_are_the_fast_configs_at_one_budget():
    rows = reproduce.SUITES['cifar100-fast'].rows([0])
    paths, teachers = sorted((ROOT / 'configs' / 'fast').glob('*.py')), {'resnet32x4.py', 'resnet110.py'}
    assert {row.config.name for row in rows} == {path.name for path in paths} - teachers
    for config in map(Config.fromfile, paths):
        assert config.train_dataloader.batch_size == 256 and config.train_dataloader.drop_last
        assert config.optim_wrapper.optimizer == dict(type='SGD', lr=0.2, momentum=0.9, weight_decay=5e-4)
        assert config.auto_scale_lr.base_batch_size == 256  # the rate is meant for this batch
        epochs = 60 if Path(config.filename).name in teachers else 30
        warmup, cosine = config.param_scheduler
        assert (warmup.end, cosine.begin, cosine.end, cosine.T_max) == (3, 3, epochs, epochs - 3)
        assert config.train_cfg.max_epochs == epochs


def test_the_best_student_is_taken_along(tmp_path):
    lines = []
    for name, accuracy in (('kd', 91.0), ('atsc', 93.0)):
        config, run = method_config(name), tmp_path / f'{name}_digits'
        run.mkdir()
        train(config, run / 'epoch_40.pth')
        config.dump(tmp_path / f'{name}_digits.py')
        (run / 'last_checkpoint').write_text(f'{run}/epoch_40.pth\n')
        lines.append(demo.Line(Row(name.upper(), tmp_path / f'{name}_digits.py', run.name), 1, accuracy, 1.0))
    said = demo.take_best(lines, tmp_path)
    assert said.startswith(f'best student: ATSC, exported without its teacher to {tmp_path / "student"}')
    scope, code = {}, [line.strip() for line in said.splitlines()[1:]]
    exec(f'{code[0]}\nnetwork = ' + code[1][:-len("('digit.png')")], scope)
    assert 'classifier.head.fc.weight' in scope['network'].model.head.state_dict()


def test_every_config_of_the_demo_is_a_row_and_the_taught_wait_for_both_teachers():
    rows, folder = demo.rows(), ROOT / 'configs' / 'demo'
    assert {row.config.resolve() for row in rows} == set(folder.glob('*.py'))
    alone = {row.folder for row in rows if not row.needs}
    assert alone == {'teacher_digits', 'teacher2_digits', 'student_digits'}
    assert all(set(row.needs) == alone - {'student_digits'} for row in rows if row.needs)
