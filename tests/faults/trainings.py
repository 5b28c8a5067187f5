"""Small trainings that draw random numbers wherever one can, and processes that live through a part of them."""
import multiprocessing
import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from mmpretrain.datasets import CIFAR10, CIFAR100

from mmkd_atsc.launch import free_port
from mmkd_atsc.runtime import ResumableEpochLoop
from tests.conftest import TINY_TRAINING, tiny_classifier
from tools import train

COMMON = TINY_TRAINING + """
mixup = dict(augments=[dict(type='Mixup', alpha=0.4)])
augment = [dict(type='RandomCrop', crop_size=32, padding=4), dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]
train_dataloader.update(batch_size=100 // ITERATIONS)
train_dataloader['dataset']['pipeline'] = augment
train_cfg.update(max_epochs=3)
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True, T_max=3, convert_to_iter_based=True)
optim_wrapper['optimizer'].update(lr=0.01, momentum=0.9)
default_hooks.update(checkpoint=dict(
    type='mmkd_atsc.AtomicCheckpointHook', interval=1, max_keep_ckpts=2,
    save_best='student/accuracy/top1', rule='greater'))
val_cfg = dict(type='mmkd_atsc.DistillValLoop', teachers=True)
model = dict(teacher=TEACHER, teacher_ckpt=CHECKPOINTS[0])
"""
ATSC = """
model.update(
    type='mmkd_atsc.AdaptiveTeacherDistill',
    architecture=dict(
        type='ImageClassifier', train_cfg=mixup,
        backbone=dict(type='mmkd_atsc.CIFARResNet', depth=8, widths=(4, 4, 4, 8)),
        neck=dict(type='mmkd_atsc.FeatureProjector'), head=dict(type='mmkd_atsc.SharedClassifierHead')))
custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook', start=1, stop=2)]
"""
METHODS = dict(
    # With 10 batches an epoch and steps of 4, a checkpoint holds the gradients of half a step.
    aekt="""
model.update(type='mmkd_atsc.MultiTeacherDistill', architecture=dict(STUDENT, train_cfg=mixup),
             distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=10))
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=2)]
optim_wrapper.update(accumulative_counts=4)
""", atsc=ATSC, several=ATSC + """
model.update(teacher=dict(big=TEACHER, twin=TEACHER), teacher_ckpt=dict(zip(('big', 'twin'), CHECKPOINTS)))
custom_hooks.append(dict(type='EMAHook', momentum=0.1))
""")
# A config that inherits one of MMPretrain, with our parts mixed in as configs/mix/README.md says.
STOCK = """
_base_ = ['mmpretrain::mobilenet_v3/mobilenet-v3-small-050_8xb128_in1k.py', 'mmkd_atsc::_base_/distill.py']
model = dict(
    _delete_=True, type='mmkd_atsc.MultiTeacherDistill', teacher=TEACHER, teacher_ckpt=CHECKPOINTS[0],
    architecture=dict(_base_.model, head=dict(_base_.model.head, num_classes=10)),
    distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=10))
augment = [dict(type='RandomFlip', prob=0.5), dict(type='PackInputs')]
test_dataloader = val_dataloader = train_dataloader = dict(
    _delete_=True, batch_size=100 // ITERATIONS, num_workers=0, collate_fn=dict(type='default_collate'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='mmkd_atsc.Digits', train_images=100, pipeline=augment))
del _base_.train_cfg['by_epoch']
default_hooks = dict(_base_.distill.default_hooks)
default_hooks['checkpoint'].update(max_keep_ckpts=1, save_best='student/accuracy/top1', rule='greater')
optim_wrapper, val_cfg, test_cfg = _base_.distill.optim_wrapper, _base_.distill.val_cfg, _base_.distill.test_cfg
train_cfg = dict(_base_.distill.train_cfg, max_epochs=3, val_interval=1)
param_scheduler = dict(_delete_=True, type='StepLR', by_epoch=True, step_size=1, gamma=0.9)
custom_hooks = [dict(type='EMAHook', momentum=0.1), dict(type='mmkd_atsc.DistillWarmupHook', epochs=2)]
randomness = dict(seed=0)
"""
LOADERS = dict(plain='', workers="""
train_dataloader.update(num_workers=2, persistent_workers=True)
""", batched="""
data_preprocessor = dict(type='mmkd_atsc.BatchedDataPreprocessor', num_classes=10, mean=[127.5] * 3, std=[127.5] * 3)
for dataloader, split in (train_dataloader, 'train'), (val_dataloader, 'test'):
    dataloader.update(collate_fn=dict(type='mmkd_atsc.collate_batch'), dataset=dict(
        type='mmkd_atsc.BatchedCIFAR100', data_root=DATA, split=split, pipeline=dataloader['dataset']['pipeline'],
        metainfo=dict(classes=tuple('0123456789'))))
""")


def write_config(folder: Path, method: str, loader: str = 'plain', iterations: int = 10) -> Path:
    """A config and the teachers and data that it names, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        checkpoints.append(str(folder / f'teacher{seed}.pth'))
        torch.save(dict(state_dict=MODELS.build(tiny_classifier(8)).state_dict()), checkpoints[-1])
    if loader == 'batched':
        write_cifar(folder)
    names = dict(TEACHER=tiny_classifier(8), STUDENT=tiny_classifier(4), CHECKPOINTS=checkpoints, DATA=str(folder),
                 ITERATIONS=iterations)
    text = ''.join(f'{name} = {value!r}\n' for name, value in names.items())
    path = folder / f'{method}_{loader}.py'
    path.write_text(text + (STOCK if method == 'stock' else COMMON + METHODS[method]) + LOADERS[loader])
    return path


def write_cifar(folder: Path, kind: type[CIFAR10] = CIFAR100, labels: str = 'fine_labels', train: int = 100,
                test: int = 50) -> None:
    """Random images in CIFAR's files."""
    random = np.random.RandomState(0)
    (folder / kind.base_folder).mkdir(exist_ok=True)
    for name, count in dict(train_list=train, test_list=test).items():
        for file, _ in getattr(kind, name):
            content = {'data': random.randint(256, size=(count, 3072), dtype=np.uint8),
                       labels: random.randint(10, size=count).tolist()}
            (folder / kind.base_folder / file).write_bytes(pickle.dumps(content))


# Lives are forked from a process that has imported everything and computed nothing: a start takes no seconds, and
# PyTorch does not go on where another process has differentiated.
SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(['tests.faults.trainings'])


class Life:
    """``tools/train.py`` in processes of its own, from which one can go at any moment.

    Args:
        config, work_dir, arguments: Of the tool; what it says is in ``log``, beside the work directory.
        processes: How many train together.
        prepare: Called in each of them before the tool, a function of a module.
    """

    def __init__(self, config: Path, work_dir: Path, *arguments: object, processes: int = 1,
                 prepare: Callable[[], None] | None = None) -> None:
        self.log = work_dir.with_suffix('.log')
        command, port = [str(word) for word in (config, '--work-dir', work_dir, *arguments)], free_port()
        self._processes = [SERVER.Process(target=live, args=(self.log, command, rank, processes, port, prepare))
                           for rank in range(processes)]
        for process in self._processes:
            process.start()

    def kill(self, index: int = 0) -> None:
        self._processes[index].kill()

    def ended(self) -> bool:
        return not any(process.is_alive() for process in self._processes)

    def wait(self, timeout: float = 60) -> list[int]:
        """The exit codes; what still lives after ``timeout`` seconds is killed, and counts as a signal's."""
        until = time.monotonic() + timeout
        for process in self._processes:
            process.join(max(0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        return [process.exitcode for process in self._processes]


def live(log: Path, command: list[str], rank: int, processes: int, port: int,
         prepare: Callable[[], None] | None) -> None:
    """What one of the processes does; it ends with the tool's exit code."""
    code = 1
    try:
        for stream in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        sys.stdout, sys.stderr = (open(stream, 'w', closefd=False) for stream in (1, 2))
        # What takes the time in a training this short: MMEngine lists the machine's software, and formats the
        # config for each checkpoint.
        Runner._log_env = lambda *args: None
        Config.pretty_text = property(repr)
        for name in ('train_list', 'test_list'):  # the random images have not the real ones' checksums
            setattr(CIFAR100, name, [[file, None] for file, _ in getattr(CIFAR100, name)])
        torch.set_num_threads(1)
        if processes > 1:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes),
                              MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
            command = [*command, '--launcher', 'pytorch']
        if prepare:
            prepare()
        train.main(command)
        code = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


REACHED_FIRST_STEP = 77


def stop_before_the_first_step() -> None:
    """For lives that end with the first batch in their hands."""

    def stop(loop, *args):
        next(iter(loop.dataloader))
        sys.stdout.flush()
        os._exit(REACHED_FIRST_STEP)

    for loop in (ResumableEpochLoop, EpochBasedTrainLoop, IterBasedTrainLoop):
        loop.run_epoch = loop.run_iter = stop


def differences(first: Path, second: Path) -> list[str]:
    """Where the last checkpoints of two trainings differ, but for times and paths."""
    one, other = ({key: value for key, value in torch.load(last_of(folder), weights_only=True).items()
                   if key not in ('meta', 'message_hub')} for folder in (first, second))
    return list(compare(one, other))


def last_of(folder: Path) -> Path | None:
    note = folder / 'last_checkpoint'
    return Path(note.read_text()) if note.is_file() else None


def compare(one, other, path: str = ''):
    """The paths in nested values at which they are not equal, bit for bit."""
    if type(one) is not type(other):
        yield f'{path}: {type(one).__name__} and {type(other).__name__}'
    elif isinstance(one, dict):
        yield from (f'{path}/{key}: only in one' for key in one.keys() ^ other.keys())
        for key in one.keys() & other.keys():
            yield from compare(one[key], other[key], f'{path}/{key}')
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            yield f'{path}: {len(one)} and {len(other)}'
        for index, pair in enumerate(zip(one, other)):
            yield from compare(*pair, f'{path}/{index}')
    elif not (torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other):
        yield path
