"""Small real tasks for ``robustness.py``: images, networks, schedules, and the config of a method on each of them."""
import functools
import os
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from mmkd_atsc.datasets.batched_cifar import BatchedCIFAR100, ImageTable
from mmkd_atsc.datasets.digits import Digits
from mmkd_atsc.datasets.pad_crop_flip import PadCropFlip
from mmkd_atsc.registry import DATASETS

MOST_TEST_IMAGES = 2000
METHODS = ('alone', 'kd', 'dkd', 'aekt', 'simkd', 'atsc')


class Task(NamedTuple):
    """A training of a student, and the teacher that it may have.

    Args:
        classes, images: Of the training set: digits if ``digits``, else the first classes of CIFAR-100.
        student, epochs, batch, rate: The student and its schedule; a rate below 0.01 is AdamW's, any other SGD's.
        teacher, teacher_epochs: A ResNet, trained on the same images by SGD.
        quick: Part of ``--quick``.
    """

    classes: int
    images: int
    student: str
    epochs: int
    batch: int
    rate: float
    teacher: str = 'resnet14'
    teacher_epochs: int = 15
    digits: bool = False
    quick: bool = False

    @property
    def data(self) -> str:
        return f'{"digits" if self.digits else "cifar"}{self.classes}x{self.images}'

    @property
    def side(self) -> int:
        return 8 if self.digits else 16

    @property
    def teacher_name(self) -> str:
        return f'{self.data}_{self.teacher}_{self.teacher_epochs}e'


# Few steps and many, large rates and small ones, few classes and many, students of four families, teachers that are
# much better than the student and hardly better.
TASKS = dict(
    digits_r8_sgd10_94=Task(10, 1000, 'resnet8', 6, 64, 0.1, digits=True, quick=True),
    digits_r8_sgd05=Task(10, 400, 'resnet8', 20, 32, 0.05, digits=True, teacher_epochs=30),
    c10_r8_sgd10_94=Task(10, 3000, 'resnet8', 5, 160, 0.1),
    c20_r8_adamw=Task(20, 4000, 'resnet8', 6, 128, 2e-3, quick=True),
    c100_r8_sgd05=Task(100, 6000, 'resnet8', 4, 64, 0.05, quick=True),
    c10_mnv2_sgd10=Task(10, 3000, 'mobilenetv2', 5, 64, 0.1, quick=True),
    c10_weak_teacher=Task(10, 3000, 'resnet8', 6, 32, 0.05, 'resnet8', 8),
    digits_vit_adamw=Task(10, 1000, 'vit', 12, 32, 2e-3, digits=True),
    digits_tiny_sgd05=Task(10, 400, 'resnet8_tiny', 20, 32, 0.05, teacher_epochs=30, digits=True),
    c10_r8_sgd05_470=Task(10, 3000, 'resnet8', 10, 64, 0.05),
    c20_convnext_adamw=Task(20, 4000, 'convnext', 6, 128, 2e-3),
    c100_weak_teacher=Task(100, 6000, 'resnet8', 4, 256, 0.1, 'resnet8', 10),
    c10_vit_adamw=Task(10, 3000, 'vit', 10, 64, 1e-3),
    c20_r20_sgd10=Task(20, 4000, 'resnet20', 3, 64, 0.1),
    c100_r8_sgd10=Task(100, 6000, 'resnet8', 8, 128, 0.1),
    c10_r8_sgd10_20e=Task(10, 3000, 'resnet8', 20, 256, 0.1),
    c10_mnv2_sgd05=Task(10, 3000, 'mobilenetv2', 8, 128, 0.05),
    c100_mnv2_adamw=Task(100, 6000, 'mobilenetv2', 6, 128, 2e-3),
)

VIT = """student = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmpretrain.VisionTransformer', img_size={side}, patch_size={patch}, out_type='featmap',
        arch=dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128)),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes={classes}, in_channels=64))
"""
CONVNEXT = """student = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(
        type='mmpretrain.ConvNeXt', stem_patch_size=2, arch=dict(depths=[2, 2, 2], channels=[24, 48, 96]),
        out_indices=[2], gap_before_final_norm=False),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(type='mmpretrain.LinearClsHead', num_classes={classes}, in_channels=96))
"""
CIFAR_STUDENT = 'student = dict(_base_.{student}, head=dict(_base_.{student}.head, num_classes={classes}))\n'
SURROUNDINGS = """
dataset = dict(type='mmkd_atsc.SmallImages', classes={classes}, images={images}, digits={digits})
data_preprocessor = dict(
    type='mmkd_atsc.BatchedDataPreprocessor', num_classes={classes}, to_rgb=False,
    mean=[129.3, 124.1, 112.4], std=[68.2, 65.4, 70.4])
train_dataloader = dict(
    batch_size={batch}, num_workers=0, dataset=dict(dataset, split='train'),
    sampler=dict(type='DefaultSampler', shuffle=True), collate_fn=dict(type='mmkd_atsc.collate_batch'))
val_dataloader = dict(
    batch_size=500, num_workers=0, dataset=dict(dataset, split='test'),
    sampler=dict(type='DefaultSampler', shuffle=False), collate_fn=dict(type='mmkd_atsc.collate_batch'))
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))
train_cfg = dict(type='mmkd_atsc.ResumableEpochLoop', max_epochs={epochs}, val_interval={epochs})
val_cfg = dict(type='{loop}'{score})
optim_wrapper = dict(
    type='OptimWrapper', constructor='mmkd_atsc.DistillOptimWrapperConstructor', optimizer=dict({optimizer}))
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True, T_max={epochs}, convert_to_iter_based=True)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval={epochs}, max_keep_ckpts=1, save_best=None))
log_processor = dict(window_size=20)
"""
# What the methods' pages tell a user to write.
LOGITS = """    type='mmkd_atsc.MultiTeacherDistill',
    architecture=student,
    teacher=teacher,
    teacher_ckpt='{checkpoint}',
"""
FEATURES = """    type='mmkd_atsc.AdaptiveTeacherDistill',
    architecture=dict(
        student, neck=dict(type='mmkd_atsc.FeatureProjector'), head=dict(type='mmkd_atsc.SharedClassifierHead')),
    teacher=teacher,
    teacher_ckpt='{checkpoint}',
"""
RECORDERS = """    distiller=dict(
        type='mmrazor.ConfigurableDistiller',
        student_recorders=dict(
            logits=dict(type='ModuleOutputs', source='head'),
            labels=dict(type='ModuleInputs', source='head.loss_module')),
        teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head')),
        distill_losses=dict(loss={loss}),
        loss_forward_mappings=dict(loss=dict(
            preds_S=dict(from_student=True, recorder='logits'),
            preds_T=dict(from_student=False, recorder='logits'){labels}))))
"""
WARMUP = "custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook')]\n"
MODELS = dict(
    alone='model = student\n',
    kd='model = dict(\n' + LOGITS + RECORDERS.replace('{loss}', "dict(type='mmrazor.KLDivergence', tau=4)").replace(
        '{labels}', ''),
    dkd='model = dict(\n' + LOGITS + RECORDERS.replace('{loss}', "dict(type='mmkd_atsc.AEKTLoss', gamma=0.0)").replace(
        '{labels}', ",\n            gt_labels=dict(from_student=True, recorder='labels', data_idx=1)") + WARMUP,
    aekt='model = dict(\n' + LOGITS + "    distiller=dict(type='mmkd_atsc.AEKTDistiller'))\n" + WARMUP,
    simkd='model = dict(\n' + FEATURES + "    distiller=dict(type='mmkd_atsc.ATSCDistiller'), adaptive=False)\n",
    atsc='model = dict(\n' + FEATURES + "    distiller=dict(type='mmkd_atsc.ATSCDistiller'))\n"
         "custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook')]\n")


def config_text(task: Task, method: str, checkpoint: str = '') -> str:
    """The config of a method on a task; of 'teacher' the teacher's own training.

    >>> print(config_text(TASKS['c10_r8_sgd10_94'], 'aekt', 'work_dirs/teacher').splitlines()[0])
    _base_ = ['mmkd_atsc::_base_/runtime.py', 'mmkd_atsc::_base_/models/resnet8.py', \
'mmkd_atsc::_base_/models/resnet14.py']
    """
    if method == 'teacher':
        task = task._replace(student=task.teacher, epochs=task.teacher_epochs, rate=0.1, batch=64 - 32 * task.digits)
        method = 'alone'
    adamw = task.rate < 0.01
    optimizer = f"type='AdamW', lr={task.rate}, weight_decay=0.05" if adamw else \
        f"type='SGD', lr={task.rate}, momentum=0.9, weight_decay=5e-4"
    own = dict(vit=VIT, convnext=CONVNEXT).get(task.student, CIFAR_STUDENT)
    file = dict(resnet8_tiny='resnet8_tiny_digits').get(task.student, task.student)
    bases = ['runtime', *(f'models/{name}' for name in dict.fromkeys((file, task.teacher)) if name not in (
        'vit', 'convnext'))]
    fields = dict(
        task._asdict(), side=task.side, patch=task.side // 4, checkpoint=checkpoint, optimizer=optimizer,
        loop='ValLoop' if method == 'alone' else 'mmkd_atsc.DistillValLoop',
        score=', teachers=True' if method == 'atsc' else '')
    text = '_base_ = [' + ', '.join(f"'mmkd_atsc::_base_/{base}.py'" for base in bases) + ']\n'
    text += own.format(**fields) + 'teacher = ' + CIFAR_STUDENT.format(
        student=task.teacher, classes=task.classes).partition('= ')[2]
    filled = MODELS[method].replace('{checkpoint}', checkpoint)
    return text + filled + SURROUNDINGS.format(**fields)


@functools.cache
def all_images(split: str, data_root: str) -> ImageTable:
    """CIFAR-100 at half its size, read once in a process and its children."""
    table = BatchedCIFAR100(data_root, split=split, pipeline=[]).data_list
    return ImageTable(F.avg_pool2d(table.images.float(), 2).round().byte(), table.labels)


@functools.cache
def all_digits() -> ImageTable:
    samples = [*Digits(split='train', pipeline=[]), *Digits(split='test', pipeline=[])]
    images = np.stack([sample['img'][::4, ::4] for sample in samples])
    return ImageTable(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
                      torch.tensor([sample['gt_label'] for sample in samples]))


@DATASETS.register_module()
class SmallImages(BatchedCIFAR100):
    """scikit-learn's digits, 8x8 pixels, or the first classes of CIFAR-100 at half their size, 16x16.

    The training images that are left over are added to the test images, up to 2,000 in all: a difference of a point is
    to be seen.

    Args:
        classes, images: Number of classes, and of training images.
        digits: scikit-learn's digits in place of CIFAR-100.
        split: 'train' or 'test'.
    """

    def __init__(self, classes: int, images: int, split: str, digits: bool = False) -> None:
        self.classes, self.images, self.digits = classes, images, digits
        names = tuple(str(number) for number in range(classes))
        super().__init__(os.environ.get('MMKD_DATA_ROOT', 'data/cifar100'), split=split, metainfo=dict(classes=names),
                         pipeline=[])
        if split == 'train':
            self.augment = PadCropFlip(padding=1, flip_prob=0.0) if digits else PadCropFlip(padding=2, flip_prob=0.5)

    def load_data_list(self) -> ImageTable:
        if self.digits:
            table = all_digits()
            return table[:self.images] if self.split == 'train' else table[self.images:]
        train, test = (self._of_classes(all_images(split, self.data_root)) for split in ('train', 'test'))
        if self.split == 'train':
            return train[:self.images]
        rest = train[self.images:]
        return ImageTable(torch.cat([test.images, rest.images])[:MOST_TEST_IMAGES],
                          torch.cat([test.labels, rest.labels])[:MOST_TEST_IMAGES])

    def _of_classes(self, table: ImageTable) -> ImageTable:
        return table[torch.nonzero(table.labels < self.classes).flatten().tolist()]


def options_of(words: str) -> dict[str, Any]:
    """``KEY=VALUE,KEY=VALUE`` as ``--cfg-options`` reads them.

    >>> options_of('model.distiller.beta=2.0,custom_hooks.0.epochs=1')
    {'model.distiller.beta': 2.0, 'custom_hooks.0.epochs': 1}
    """
    from mmengine.config import DictAction
    return {key: DictAction._parse_iterable(value) for key, value in (
        word.split('=', 1) for word in words.split(',') if word)}
