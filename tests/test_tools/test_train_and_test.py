"""The entry points as a user runs them: train, resume, test, two processes, and every way to be told no."""
import json
import os
import re
import sys

import pytest
import torch

from tests.conftest import (
    ROOT,
    assert_one_line_error,
    assert_same_weights,
    needs_cifar100,
    refusal,
    run_command,
    run_here,
    run_tool,
    weights,
)


def test_train_resume_and_test(tiny_config, tmp_path, in_process):
    whole, parts = tmp_path / 'whole', tmp_path / 'parts'
    done = run_tool('train.py', tiny_config, '--work-dir', whole, '--seed', 3)
    assert done.returncode == 0, done.stderr
    assert 'seed=3' in next(whole.glob('*/*.log')).read_text()

    resumed = run_tool('train.py', tiny_config, '--work-dir', parts, '--seed', 3, '--resume', whole / 'epoch_1.pth')
    assert resumed.returncode == 0 and 'Epoch(train) [2]' in resumed.stdout and 'Epoch(train) [1]' not in resumed.stdout
    assert_same_weights(weights(parts / 'epoch_2.pth'), weights(whole / 'epoch_2.pth'))

    tested = run_tool('test.py', tiny_config, whole / 'epoch_2.pth', '--work-dir', whole, '--out', tmp_path / 'm.json')
    assert tested.returncode == 0, tested.stderr
    scores = [json.loads(line) for file in whole.glob('*/vis_data/scalars.json') for line in file.open()]
    trained = [line['accuracy/top1'] for line in scores if 'accuracy/top1' in line][-1]
    assert json.loads((tmp_path / 'm.json').read_text())['accuracy/top1'] == pytest.approx(trained)
    # A config that starts from another checkpoint scores the one that is named all the same.
    other = torch.load(whole / 'epoch_2.pth', weights_only=True)
    other['state_dict']['head.fc.bias'][3] += 1e6
    torch.save(other, tmp_path / 'other.pth')
    run_here('test.py', tiny_config, whole / 'epoch_2.pth', '--work-dir', whole, '--out', tmp_path / 'again.json',
             '--cfg-options', f'load_from={tmp_path / "other.pth"}')
    assert json.loads((tmp_path / 'again.json').read_text())['accuracy/top1'] == pytest.approx(trained)


def test_two_processes_train_resume_and_test(tiny_config, tmp_path):
    work_dir = tmp_path / 'dist'
    script = ROOT / 'tools' / 'dist_train.sh'
    done = run_command(script, tiny_config, 2, '--work-dir', work_dir, '--auto-scale-lr', '--cfg-options',
                       'train_cfg.max_epochs=1', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {'dist', tiny_config.name}  # nothing but the work directory
    assert 'no GPU on this machine: 2 CPU processes over gloo' in done.stdout
    assert 'learning rate 0.1\n' in done.stdout
    assert 'Warning' not in done.stderr, done.stderr
    assert '[2/2]' in done.stdout  # 100 images, 25 a process
    again = run_command(script, tiny_config, 2, '--work-dir', work_dir, '--resume')
    assert again.returncode == 0 and 'Epoch(train) [2]' in again.stdout, again.stderr
    tested = run_command(ROOT / 'tools' / 'dist_test.sh', tiny_config, work_dir / 'epoch_2.pth', 2, '--work-dir',
                         work_dir)
    assert tested.returncode == 0 and 'accuracy/top1' in tested.stdout, tested.stderr


@pytest.mark.parametrize('args, words', [
    (['CONFIG', '--cfg-options', 'auto_scale_lr=None', '--auto-scale-lr'], 'base_batch_size'),
    (['configs/teachers/resnet20_cifar100.py', '--cfg-options', 'train_dataloader.dataset.data_root=/nowhere',
      'train_dataloader.num_workers=0', 'val_dataloader=None', 'val_cfg=None', 'val_evaluator=None'], 'MMKD_DATA_ROOT'),
])
def test_training_says_no_in_one_line(tiny_config, tmp_path, capsys, args, words):
    args = [str(tiny_config) if arg == 'CONFIG' else arg for arg in args]
    assert words in refusal(capsys, 'train.py', *args, '--work-dir', tmp_path / 'w')


def test_slurm_starts_a_task_for_each_gpu(tiny_config, tmp_path):
    srun = tmp_path / 'srun'
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    srun.chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    done = run_command(ROOT / 'tools' / 'slurm_train.sh', 'gpus', 'a job', tiny_config, 'my work', '--seed', 3,
                       PATH=path, GPUS='4', SRUN_ARGS='--time 60')
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()
    assert words[:6] == ['-p', 'gpus', '--job-name=a job', '--gres=gpu:4', '--ntasks=4', '--ntasks-per-node=4']
    assert words[6:10] == ['--cpus-per-task=5', '--kill-on-bad-exit=1', '--time', '60']
    assert words[10:12] == [sys.executable, '-u'] and words[12].endswith('tools/train.py')
    assert words[13:] == [str(tiny_config), '--work-dir', 'my work', '--launcher', 'slurm', '--seed', '3']
    assert run_command(ROOT / 'tools' / 'slurm_train.sh', 'gpus').returncode == 2


def test_the_launcher_says_no_in_one_line(tiny_config):
    script = ROOT / 'tools' / 'dist_train.sh'
    assert_one_line_error(run_command(script, tiny_config, 'two'), 'whole number')
    assert run_command(script, tiny_config).returncode == 2


FLAGSHIP = ROOT / 'configs' / 'atsc' / 'resnet110_resnet32_cifar100.py'
SHORT = ('train_dataloader.dataset.indices=64', 'train_dataloader.batch_size=16', 'default_hooks.logger.interval=1',
         'val_dataloader.dataset.indices=200')


@needs_cifar100
def test_the_flagship_trains_validates_resumes_and_exports_on_two_cpu_processes(tmp_path, monkeypatch):
    """The flagship command needs the data and nothing else: its teacher comes with the package."""
    monkeypatch.delenv('MMKD_TEACHERS', raising=False)
    for epochs, *resume in (1, ), (2, '--resume'):
        done = run_command(ROOT / 'tools' / 'dist_train.sh', FLAGSHIP, 2, *resume, '--cfg-options', *SHORT,
                           f'train_cfg.max_epochs={epochs}', cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert re.findall(r'Epoch\(train\) \[(\d)\]\[2/2\]', done.stdout) == [str(epochs)]
    assert re.search(r'student/accuracy/top1: [\d.]+', done.stdout)
    run = tmp_path / 'work_dirs' / 'atsc' / FLAGSHIP.stem
    done = run_tool('export_student.py', FLAGSHIP, run, '--out', 'student', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'student' / 'student.pth').is_file()
