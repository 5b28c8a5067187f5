"""A training's folder stands for its last checkpoint; one that is not there is said in a line that helps."""
import pytest
import torch
from mmengine.registry import MODELS

from mmkd_atsc.checkpoints.find import find_checkpoint
from mmkd_atsc.checkpoints.read import read_checkpoint, read_weights
from mmkd_atsc.models.teacher import Teacher
from tests.conftest import tiny_classifier


def files(folder, *names):
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.mark.parametrize('names, note, found', [
    (['epoch_9.pth', 'epoch_10.pth', 'best_top1_epoch_9.pth'], None, 'epoch_10.pth'),
    (['epoch_9.pth', 'epoch_10.pth'], '{folder}/epoch_9.pth', 'epoch_9.pth'),  # the run was set back
    (['epoch_9.pth', 'epoch_10.pth'], '/where/it/was/epoch_9.pth', 'epoch_9.pth'),
    (['epoch_9.pth', 'epoch_10.pth'], '{folder}/removed.pth', 'epoch_10.pth'),
    (['epoch_2.pth'], '{folder}/../other/epoch_3.pth\n', '../other/epoch_3.pth'),
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
    ('work_dirs/resnet20_cifar10',
     "no such checkpoint ({here}/work_dirs/resnet20_cifar10); did you mean 'resnet20_cifar100'?; this package"),
    ('mmkd_atsc::weights/vgg13', 'weights/vgg13); this package brings mmkd_atsc::'),
])
def test_one_that_is_not_there_is_said_in_a_line_that_helps(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'work_dirs').mkdir()
    files(tmp_path / 'work_dirs' / 'resnet20_cifar100', 'epoch_240.pth')
    with pytest.raises(FileNotFoundError) as error:
        find_checkpoint(name)
    assert words.format(here=tmp_path) in str(error.value) and '\n' not in str(error.value)


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
