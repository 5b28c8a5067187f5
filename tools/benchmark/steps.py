"""Training steps to compare: ours through MMEngine, the same maths in a plain loop, and the rivals'.

Each builder returns a function without arguments that takes one whole step on the same batch.
"""
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample
from torch import nn

import mmkd_atsc  # noqa: F401  makes mmrazor importable
from mmkd_atsc.datasets.pad_crop_flip import PadCropFlip
from mmkd_atsc.models.losses import AEKTLoss, TeacherAnchorLoss
from mmkd_atsc.runtime.accelerate import AccelerateHook

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # tools/
from analysis.cifar_networks import classifier

SGD = dict(lr=0.05, momentum=0.9, weight_decay=5e-4)
NORMALISATION = dict(mean=[127.5] * 3, std=[64.0] * 3)
BATCHED = dict(type='mmkd_atsc.BatchedDataPreprocessor', **NORMALISATION)
CLASSIC = dict(type='mmpretrain.ClsDataPreprocessor', **NORMALISATION)
LOGITS = dict(logits=dict(type='mmrazor.ModuleOutputs', source='head'))
Step = Callable[[], object]

MMLogger.get_instance('benchmark', log_level='WARNING')  # else a line for each parameter that is initialised


class Batch:
    """Random images: as our data set gives them (``batched``), as MMPretrain's does (``classic``), and normalised."""

    def __init__(self, size: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        raw = torch.randint(0, 256, (size, 3, 32, 32), generator=generator, dtype=torch.uint8)
        labels = torch.randint(100, (size, ), generator=generator)
        self.batched = dict(inputs=raw, labels=labels, sample_idx=torch.arange(size), augment=PadCropFlip(),
                            samples=size)
        self.classic = dict(inputs=raw, data_samples=[DataSample().set_gt_label(int(label)) for label in labels])
        self.images, self.labels = (raw.to(device).float() - 127.5) / 64, labels.to(device)
        self.device = device


def atsc_model(teacher: str, student: str) -> nn.Module:
    """ATSC as its config has it, with a teacher of random weights."""
    network = dict(classifier(student), neck=dict(type='mmkd_atsc.FeatureProjector'),
                   head=dict(type='mmkd_atsc.SharedClassifierHead'))
    papers = dict(align_weight=1.0, normalize=False, anchor_weight=1.0, anchor_min_dims=2)
    return _built(dict(type='mmkd_atsc.AdaptiveTeacherDistill', architecture=network, teacher=classifier(teacher),
                       allow_random_teacher=True, data_preprocessor=BATCHED,
                       distiller=dict(type='mmkd_atsc.ATSCDistiller', **papers),
                       student_ce_weight=0.0, teacher_lr_mult=1.0))


def aekt_model(teacher: str, student: str) -> nn.Module:
    """AEKT as its config has it, with a teacher of random weights."""
    return _built(dict(type='mmkd_atsc.MultiTeacherDistill', architecture=classifier(student),
                       teacher=classifier(teacher), allow_random_teacher=True,
                       distiller=dict(type='mmkd_atsc.AEKTDistiller', max_pull=None), data_preprocessor=BATCHED))


def dkd_model(teacher: str, student: str) -> nn.Module:
    """MMRazor's own algorithm with its own loss."""
    mapping = dict(preds_S=dict(from_student=True, recorder='logits'),
                   preds_T=dict(from_student=False, recorder='logits'),
                   gt_labels=dict(from_student=True, recorder='labels', data_idx=1))
    labels = dict(type='mmrazor.ModuleInputs', source='head.loss_module')
    networks = dict(architecture=dict(classifier(student), data_preprocessor=CLASSIC),
                    teacher=dict(classifier(teacher), data_preprocessor=CLASSIC))
    with DefaultScope.overwrite_default_scope('mmrazor'):
        return _built(dict(
            type='mmrazor.SingleTeacherDistill', **networks,
            distiller=dict(type='ConfigurableDistiller', student_recorders=dict(LOGITS, labels=labels),
                           teacher_recorders=LOGITS,
                           distill_losses=dict(loss_dkd=dict(type='DKDLoss', tau=4, beta=8, loss_weight=1 / 64)),
                           loss_forward_mappings=dict(loss_dkd=mapping)),
            data_preprocessor=CLASSIC))


def _built(config: dict) -> nn.Module:
    model = MODELS.build(config)
    model.architecture.init_weights()
    model.train()  # MMRazor's returns nothing
    return model


def stand_in(model: nn.Module, batch: Batch, channels_last: bool | str = 'auto') -> SimpleNamespace:
    """A runner as hooks see it: the model on its device, laid out as our configs train it, and its optimizer."""
    model = model.to(batch.device)
    runner = SimpleNamespace(model=model, optim_wrapper=build_optim_wrapper(model, dict(
        type='OptimWrapper', constructor='mmkd_atsc.DistillOptimWrapperConstructor',
        optimizer=dict(type='SGD', **SGD))))
    AccelerateHook(channels_last).before_run(runner)
    return runner


def engine_step(model: nn.Module, batch: Batch, data: Callable[[], dict] | None = None, **layout: object) -> Step:
    """``train_step`` through MMEngine, as the runner calls it; ``data`` makes the batch anew in each step."""
    runner = stand_in(model, batch, **layout)
    data = data or (lambda: batch.batched)
    return lambda: runner.model.train_step(data(), runner.optim_wrapper)


def dkd_step(teacher: str, student: str, batch: Batch) -> Step:
    """``train_step`` of MMRazor's algorithm with MMPretrain's data and layout."""
    return engine_step(dkd_model(teacher, student), batch, data=lambda: batch.classic, channels_last=False)


def student_step(model: nn.Module, batch: Batch) -> Step:
    """The student alone: forward, cross-entropy, backward, optimizer."""
    student = stand_in(model, batch).model.architecture
    optimizer = torch.optim.SGD(student.parameters(), **SGD)

    def step() -> None:
        loss = F.cross_entropy(student(batch.images), batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def bare_atsc_step(model: nn.Module, batch: Batch, with_anchor: bool = True) -> Step:
    """ATSC's maths in a plain loop: one forward of each network, one backward, one optimizer."""
    model = stand_in(model, batch).model
    student, neck, teacher = model.student.backbone, model.student.neck, model.teacher
    anchor = TeacherAnchorLoss()
    anchor.bind(teacher.backbone)
    optimizer = torch.optim.SGD(model.parameters(), **SGD)

    def step() -> None:
        features = teacher.backbone(batch.images)
        loss = F.mse_loss(neck(student(batch.images))[-1], features[-1])
        loss = loss + F.cross_entropy(teacher.head(teacher.neck((features[-1].detach(), ))), batch.labels)
        if with_anchor:
            loss = loss + anchor()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def bare_aekt_step(model: nn.Module, batch: Batch) -> Step:
    """AEKT's maths in a plain loop, with its serialization layer and the logged terms."""
    model = stand_in(model, batch).model
    student, teacher, fc = model.student, model.teacher.eval(), model.distiller.fc
    loss_aekt = AEKTLoss(max_pull=None)
    optimizer = torch.optim.SGD([*student.parameters(), *fc.parameters()], **SGD)

    def step() -> dict[str, torch.Tensor]:
        with torch.no_grad():
            answers = teacher(batch.images)
        logits = student(batch.images)
        loss = F.cross_entropy(logits, batch.labels) + loss_aekt(fc(logits), answers, batch.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss_aekt.terms

    return step


def authors_atsc_step(model: nn.Module, batch: Batch) -> Step:
    """The authors' published loop: the teacher runs twice, the penalty is a Python loop over its parameters."""
    model = model.to(batch.device)
    student, neck, teacher = model.student.backbone, model.student.neck, model.teacher
    anchors = {name: p.detach().clone() for name, p in teacher.named_parameters()}
    first = torch.optim.SGD([p for part in (student, neck, teacher.backbone) for p in part.parameters()], **SGD)
    second = torch.optim.SGD(teacher.head.parameters(), **SGD)

    def step() -> object:
        loss = F.mse_loss(neck(student(batch.images))[-1], teacher.backbone(batch.images)[-1])
        for name, parameter in teacher.named_parameters():
            if parameter.dim() > 1:
                loss = loss + torch.sum((parameter - anchors[name]) ** 2)
        first.zero_grad()
        loss.backward()
        first.step()
        loss_of_classifier = F.cross_entropy(teacher(batch.images), batch.labels)
        second.zero_grad()
        loss_of_classifier.backward()
        second.step()
        return loss.item(), loss_of_classifier.item()  # it logs both, every step

    return step
