"""What a person sees of a training, and which work directories it takes: through the tool, with configs elsewhere."""
import os
import signal
import subprocess
import sys
import time

import pytest
from mmengine.config import Config

from mmkd_atsc.cli import default_work_dir
from tests.conftest import ROOT, run_command, tiny_classifier

CONFIGS = ROOT / 'configs'
PAIR = """
_base_ = ['tiny.py']
model = dict(_delete_=True, type='mmkd_atsc.MultiTeacherDistill', architecture=_base_.model, teacher={teacher!r},
             teacher_ckpt={checkpoint!r}, distiller={distiller!r})
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
train_cfg = dict(max_epochs=1)
"""


@pytest.fixture
def pair(tiny_config, tmp_path, teacher_checkpoint):
    """Writes ``configs/METHOD/pair.py`` of a project, and gives its path."""
    def write(method):
        distiller = Config.fromfile(CONFIGS / '_base_' / 'methods' / f'{method}_cifar100.py').model.distiller.to_dict()
        path = tmp_path / 'configs' / method / 'pair.py'
        path.parent.mkdir(parents=True)
        path.write_text(PAIR.replace('tiny.py', str(tiny_config)).format(
            teacher=tiny_classifier(8), checkpoint=teacher_checkpoint, distiller=distiller))
        return path
    return write


def train(*args, cwd):
    """The exit code and the lines of a person's console, which shows stdout and stderr."""
    words = [sys.executable, ROOT / 'tools' / 'train.py', *args]
    done = run_command('bash', '-c', 'exec "$@" 2>&1', 'train', *words, cwd=cwd)
    return done.returncode, done.stdout.splitlines()


def assert_refused(outcome, *words):
    code, lines = outcome
    assert code and lines[-1].startswith('error: ') and len(lines) <= 16, '\n'.join(lines)
    assert all(word in lines[-1] for word in words), lines[-1]


def test_each_config_has_a_work_directory_of_its_own():
    paths = [str(path) for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts]
    assert len({default_work_dir(path) for path in paths}) == len(paths) > 90
    # Where the pairs' configs look for their teachers.
    assert default_work_dir(str(CONFIGS / 'teachers' / 'vgg13_cifar100.py')) == 'work_dirs/teachers/vgg13_cifar100'
    assert default_work_dir('mmkd_atsc::atsc/multi/mine.py') == 'work_dirs/atsc/multi/mine'
    assert default_work_dir('/home/me/mine.py') == 'work_dirs/mine'


def test_the_console_is_short_and_a_run_is_not_mixed_with_another(pair, tmp_path, teacher_checkpoint):
    kd, dkd = pair('kd'), pair('dkd')
    code, lines = train(kd, cwd=tmp_path)
    begin = next(number for number, line in enumerate(lines) if 'Epoch(train)' in line)
    said, work_dir = '\n'.join(lines[:begin]), tmp_path / 'work_dirs' / 'kd' / 'pair'
    assert not code and begin <= 15, said
    for words in ('MultiTeacherDistill, ConfigurableDistiller, KLDivergence', '6,530 parameters', '100 images',
                  f'from {teacher_checkpoint}', '25 images', 'learning rate 0.05', 'fp32 on CPU', str(work_dir),
                  'before training: teacher/accuracy/top1'):
        assert words in said
    log, = (path.read_text() for path in work_dir.glob('*/*.log'))
    assert said.split(' - INFO - ')[-1] in log
    assert all(words in log for words in ('System environment', 'Config:\n', 'Hooks will be executed'))

    assert_refused(train(dkd, '--work-dir', work_dir, '--resume', cwd=tmp_path), 'epoch_1.pth', 'cannot be resumed',
                   'KLDivergence', 'AEKTLoss')
    code, lines = train(dkd, '--work-dir', work_dir, cwd=tmp_path)
    anew, = (line for line in lines if 'checkpoints of an earlier training' in line)
    assert not code and 'epoch_1.pth' in anew and 'begins anew' in anew
    code, lines = train(dkd, '--resume', '--cfg-options', 'train_cfg.max_epochs=0', cwd=tmp_path)
    assert any('work_dirs/dkd/pair has no checkpoint to go on from' in line for line in lines)


def test_a_directory_in_which_another_process_trains_is_refused_until_it_dies(tiny_config, tmp_path):
    args = [tiny_config, '--work-dir', tmp_path / 'w', '--cfg-options', 'train_dataloader.num_workers=1']
    words = [sys.executable, ROOT / 'tools' / 'train.py', *args, 'train_cfg.max_epochs=100000']
    with subprocess.Popen([str(word) for word in words], stdout=subprocess.DEVNULL) as process:
        try:
            end = time.monotonic() + 120
            while not (tmp_path / 'w' / 'last_checkpoint').is_file() and time.monotonic() < end:
                time.sleep(0.1)
            assert_refused(train(*args, cwd=tmp_path), f'{tmp_path / "w"}: another process trains in this')
        finally:
            os.kill(process.pid, signal.SIGKILL)
    code, lines = train(*args, cwd=tmp_path)  # at once: the killed one's workers may still live
    assert not code, '\n'.join(lines)


@pytest.mark.parametrize('checkpoint, words', [
    ('http://127.0.0.1:9/net.pth', ['http://127.0.0.1:9/net.pth: could not be downloaded']),
    ('runs/vgg13_cifar100/epoch_240.pth', ['configs/teachers/vgg13_cifar100.py --work-dir runs/vgg13_cifar100;',
                                           'mmkd_atsc::weights/resnet110_cifar100']),
    (None, ['{tmp_path}/w/pair.py: ', 'No space left on device'])])
def test_an_error_is_the_last_of_few_lines(pair, tmp_path, checkpoint, words):
    (tmp_path / 'w').mkdir()
    if checkpoint is None:
        (tmp_path / 'w' / 'pair.py').symlink_to('/dev/full')  # where MMEngine writes the config
    options = ['--cfg-options', f'model.teacher_ckpt={checkpoint}'] if checkpoint else []
    outcome = train(pair('kd'), '--work-dir', tmp_path / 'w', *options, cwd=tmp_path)
    assert_refused(outcome, *(word.format(tmp_path=tmp_path) for word in words))
    assert 'data_root' not in outcome[1][-1]
