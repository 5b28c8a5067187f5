"""What the tests of algorithms and distillers share: batches, an optimizer, a transformer, and KD with its formula."""
import torch
from mmengine.optim import build_optim_wrapper
from mmpretrain.structures import DataSample
from torch.nn import functional as F

import mmkd_atsc.engine  # noqa: F401

LABELS = torch.tensor([0, 3, 9, 1])  # of conftest's batch
LOGITS = dict(logits=dict(type='mmrazor.ModuleOutputs', source='head'))
SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4)
VIT = dict(
    type='mmpretrain.ImageClassifier', data_preprocessor=dict(mean=[0.] * 3, std=[255.] * 3, to_rgb=True),
    backbone=dict(type='mmpretrain.VisionTransformer', img_size=32, patch_size=8, arch=dict(
        embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=32)),
    head=dict(type='mmpretrain.VisionTransformerClsHead', num_classes=10, in_channels=32))


def kd(mapping=None, **loss):
    """A distiller's options for KD at temperature 4; ``mapping`` says more of the teacher's record."""
    return dict(
        student_recorders=dict(LOGITS), teacher_recorders=dict(LOGITS),
        distill_losses=dict(loss_kd=dict(type='mmrazor.KLDivergence', tau=4, **loss)),
        loss_forward_mappings=dict(loss_kd=dict(
            preds_S=dict(from_student=True, recorder='logits'),
            preds_T={'from_student': False, 'recorder': 'logits', **(mapping or {})})))


def divergence(student, teacher):
    """The loss of :func:`kd`."""
    return 16 * F.kl_div(F.log_softmax(student / 4, 1), F.softmax(teacher / 4, 1), reduction='batchmean')


def batches(count, size=8):
    generator = torch.Generator().manual_seed(5)
    for _ in range(count):
        images = torch.randint(0, 256, (size, 3, 32, 32), generator=generator).float()
        labels = torch.randint(0, 10, (size, ), generator=generator)
        yield dict(inputs=images, data_samples=[DataSample().set_gt_label(label) for label in labels.tolist()]), labels


def optimizer_of(model, **extra):
    return build_optim_wrapper(model, dict(
        dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor', optimizer=SGD), **extra))


def train(model, steps):
    """Some steps on normalised images."""
    wrapper = optimizer_of(model)
    for data, _ in batches(steps):
        data['inputs'] = data['inputs'] / 64 - 2
        model.train_step(data, wrapper)
