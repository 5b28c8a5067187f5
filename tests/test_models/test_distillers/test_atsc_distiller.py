"""The alignment in the units of the teacher's features: measured once, in the first batch, and kept."""
import pytest
import torch
from torch.nn import functional as F

from tests.test_models.distillation import batches
from tests.test_models.test_algorithms.test_adaptive_teacher_distill import build


def features_of(model, images):
    with torch.no_grad():
        return model.teacher.backbone(images)[-1].double(), model.student.extract_feat(images)[-1].double()


def test_it_is_divided_by_the_variance_of_the_first_batch(teacher_checkpoint):
    model = build(teacher_checkpoint, dict(normalize=True, align_weight=10.0), adaptive=False).eval()
    (first, _), (second, _) = batches(2)
    teacher, _ = features_of(model, first['inputs'])
    variance = (teacher**2).mean() - teacher.mean()**2
    for batch in (first, second):
        teacher, student = features_of(model, batch['inputs'])
        loss = model(batch['inputs'], batch['data_samples'], mode='loss')['distill.loss_align']
        torch.testing.assert_close(loss.double(), 10 * F.mse_loss(student, teacher) / variance, rtol=1e-5, atol=0)
    assert model.distiller.variances.teacher_features.item() == pytest.approx(variance.item(), rel=1e-6)


def test_features_that_hardly_vary_count_as_if_they_varied_more(teacher_checkpoint):
    model = build(teacher_checkpoint, dict(normalize=True), adaptive=False).eval()
    (batch, _), = batches(1)
    model(torch.zeros_like(batch['inputs']), batch['data_samples'], mode='loss')
    assert model.distiller.variances.teacher_features.item() == pytest.approx(0.1)


def test_the_papers_alignment_has_no_such_memory(teacher_checkpoint):
    model = build(teacher_checkpoint)
    (batch, _), = batches(1)
    model(batch['inputs'], batch['data_samples'], mode='loss')
    assert not any('variances' in name for name in model.state_dict())


def test_the_defaults_are_not_the_papers_values():
    from mmkd_atsc.models.distillers import ATSCDistiller
    distiller = ATSCDistiller()
    assert distiller.normalize and distiller.anchor_min_dims == 1
    assert distiller.distill_losses['loss_align'].loss_weight == 10
    own = dict(loss_align=dict(type='mmkd_atsc.FeatureAlignLoss'))
    assert not ATSCDistiller(distill_losses=own).normalize  # a loss of one's own is as it was written
