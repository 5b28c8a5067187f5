"""A training's folder stands for its last checkpoint; one that is not there is said in a line that helps."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmkd_atsc import cli
from mmkd_atsc.checkpoints.find import find_checkpoint
from mmkd_atsc.checkpoints.read import read_checkpoint, read_weights
from mmkd_atsc.models.teacher import Teacher
from tests.conftest import assert_one_line_error, run_tool, tiny_classifier


def files(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.mark.parametrize('names, note, found', [
    (['epoch_9.pth', 'epoch_10.pth', 'best_top1_epoch_9.pth'], None, 'epoch_10.pth'),
    (['iter_900.pth', 'iter_1000.pth'], None, 'iter_1000.pth'),
    (['epoch_9.pth', 'epoch_10.pth'], '{folder}/epoch_9.pth', 'epoch_9.pth'),  # the run was set back
    (['epoch_9.pth', 'epoch_10.pth'], '/where/it/was/epoch_9.pth', 'epoch_9.pth'),
    (['epoch_9.pth', 'epoch_10.pth'], '{folder}/removed.pth', 'epoch_10.pth'),
    (['epoch_9.pth', 'epoch_10.pth'], '', 'epoch_10.pth'),
    (['epoch_2.pth'], '{folder}/../other/epoch_3.pth\n', '../other/epoch_3.pth'),
    (['best_top1_epoch_9.pth', 'last.txt'], None, 'best_top1_epoch_9.pth'),
    (['student.pth', 'student.py'], None, 'student.pth'),
])
def test_a_folder_stands_for_its_last_checkpoint(tmp_path, names, note, found):
    folder = files(tmp_path / 'run', *names)
    files(tmp_path / 'other', 'epoch_3.pth')
    if note is not None:
        (folder / 'last_checkpoint').write_text(note.format(folder=folder))
    assert find_checkpoint(str(folder)).resolve() == (folder / found).resolve()


@pytest.mark.parametrize('names, words', [
    (['best_a.pth', 'best_b.pth'], '{run}: which of best_a.pth, best_b.pth is meant? name the file'),
    (['log.txt'], '{run}: is a folder without a checkpoint; to train it: python tools/train.py '
                  'configs/teachers/vgg13_cifar100.py --work-dir {run}; this package brings mmkd_atsc::weights/'),
])
def test_a_folder_without_one_or_with_several_is_named(tmp_path, names, words):
    run = files(tmp_path / 'vgg13_cifar100', *names)
    with pytest.raises(FileNotFoundError) as error:
        find_checkpoint(str(run))
    assert str(error.value).startswith(words.format(run=run))


@pytest.mark.parametrize('name, words', [
    ('work_dirs/vgg13_cifar100', 'work_dirs/vgg13_cifar100: no such checkpoint ({here}/work_dirs/vgg13_cifar100); '
     'to train it: python tools/train.py configs/teachers/vgg13_cifar100.py --work-dir work_dirs/vgg13_cifar100; '),
    ('runs/resnet32x4_cifar100_seed2', 'configs/teachers/resnet32x4_cifar100.py --work-dir '
     'runs/resnet32x4_cifar100_seed2 --seed 2; this package brings mmkd_atsc::weights/'),
    ('work_dirs/resnet20_cifar10', "resnet20_cifar10); did you mean 'resnet20_cifar100'?; this package"),
    ('work_dirs/resnet20_cifar100/epoch_24.pth', "epoch_24.pth); did you mean 'epoch_240.pth'?"),
    ('mmkd_atsc::weights/vgg13', 'weights/vgg13); this package brings mmkd_atsc::'),
])
def test_one_that_is_not_there_is_said_in_a_line_that_helps(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'work_dirs').mkdir()
    files(tmp_path / 'work_dirs' / 'resnet20_cifar100', 'epoch_240.pth')
    with pytest.raises(FileNotFoundError) as error:
        find_checkpoint(name)
    assert words.format(here=tmp_path) in str(error.value) and '\n' not in str(error.value)


PAIR = """
_base_ = ['tiny.py']
student = _base_.model
model = dict(_delete_=True, type='mmkd_atsc.MultiTeacherDistill', architecture=student, teacher={teacher!r},
             teacher_ckpt={checkpoint!r}, distiller=dict(type='mmkd_atsc.AEKTDistiller'))
train_cfg = dict(max_epochs=1)
val_cfg = val_dataloader = val_evaluator = None
"""


def test_a_teacher_beside_its_config_is_found_from_anywhere(tiny_config, tmp_path, monkeypatch):
    """Paths are relative to the working directory; ``{{ fileDirname }}`` is the folder of the config."""
    project, elsewhere = tmp_path, tmp_path / 'elsewhere'
    elsewhere.mkdir()
    init_default_scope('mmpretrain')
    torch.save(MODELS.build(Config.fromfile(tiny_config).model).state_dict(), project / 'teacher.pth')
    here = '{{ fileDirname }}'
    for folder in project, elsewhere:
        monkeypatch.chdir(folder)
        for teacher, checkpoint, missing in (
                (f'{here}/tiny.py', f'{here}/teacher.pth', None), ('tiny.py', f'{here}/teacher.pth', 'tiny.py'),
                (f'{here}/tiny.py', 'teacher.pth', 'teacher.pth')):
            (project / 'pair.py').write_text(PAIR.format(teacher=teacher, checkpoint=checkpoint))
            config = cli.load_config(str(project / 'pair.py'))
            if missing and folder != project:
                with pytest.raises(FileNotFoundError, match=str(folder / missing)):
                    MODELS.build(config.model)
            else:
                assert MODELS.build(config.model).teacher


def test_a_folder_is_read_like_its_file(tmp_path):
    for epoch in 1, 2:
        model = MODELS.build(tiny_classifier())
        torch.save(dict(state_dict=model.state_dict(), ema=dict(a=torch.ones(1))), tmp_path / f'epoch_{epoch}.pth')
    teacher = Teacher(tiny_classifier(), str(tmp_path))
    assert torch.equal(teacher.model.head.fc.weight, model.head.fc.weight)
    assert read_weights(f'{tmp_path}#ema').keys() == {'a'}
    (tmp_path / 'epoch_2.pth').write_bytes(b'')
    with pytest.raises(ValueError, match='/epoch_2.pth: the file is empty'):
        read_checkpoint(str(tmp_path))


def test_training_starts_from_a_folder_and_is_scored_by_it(tiny_config, tmp_path):
    run = tmp_path / 'run'
    for options in ['train_cfg.max_epochs=1'], [f'load_from={run}', 'train_cfg.max_epochs=1']:
        done = run_tool('train.py', tiny_config, '--work-dir', run, '--cfg-options', *options)
        assert done.returncode == 0, done.stderr
    assert f'starts from {run}' in done.stdout
    done = run_tool('train.py', tiny_config, '--work-dir', tmp_path / 'on', '--resume', run)
    assert 'Epoch(train) [2]' in done.stdout and 'Epoch(train) [1]' not in done.stdout, done.stderr
    assert run_tool('test.py', tiny_config, run, '--work-dir', tmp_path / 'test').returncode == 0
    done = run_tool('test.py', tiny_config, 'gone', '--work-dir', run, cwd=tmp_path)
    assert_one_line_error(done, f'gone: no such checkpoint ({tmp_path}/gone)')
