import re

import pytest
import torch
import torch.nn.functional as F

from mmkd_atsc.models import FeatureAlignLoss


def features(*shapes, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def test_value_by_hand():
    student, teacher = torch.tensor([[1., 2.], [0., 0.]]), torch.tensor([[0., 0.], [0., 3.]])
    assert FeatureAlignLoss()(student, teacher).item() == pytest.approx((1 + 4 + 9) / 4)
    assert FeatureAlignLoss(0.5, reduction='sum')(student, teacher).item() == pytest.approx(7.)
    assert FeatureAlignLoss()(student, student).item() == 0


@pytest.mark.parametrize('student_size, teacher_size, common', [
    ((4, 4), (8, 8), (4, 4)), ((8, 2), (4, 4), (4, 2)), ((7, 7), (3, 5), (3, 5))])
def test_larger_map_is_averaged_down(student_size, teacher_size, common):
    student, teacher = features((2, 3, *student_size), (2, 3, *teacher_size))
    loss = FeatureAlignLoss()(student, teacher)
    pooled = [F.adaptive_avg_pool2d(feature, common) for feature in (student, teacher)]
    torch.testing.assert_close(loss, (pooled[0] - pooled[1]).square().mean())
    loss.backward()
    assert student.grad.abs().sum() > 0 and teacher.grad.abs().sum() > 0


def test_half_precision_features_are_compared_in_fp32(dtype=torch.float16):
    student, teacher = (f.detach().to(dtype).requires_grad_() for f in features((2, 3, 4, 4), (2, 3, 2, 2)))
    student.data.mul_(600)  # the square is beyond fp16
    loss = FeatureAlignLoss()(student, teacher)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, FeatureAlignLoss()(student.float(), teacher.float()))
    assert loss > 65504
    loss.backward()
    assert student.grad.dtype == dtype and student.grad.isfinite().all()


@pytest.mark.parametrize('shapes', [((2, 3, 4, 4), (2, 5, 4, 4)), ((2, 3), (2, 3, 4, 4)), ((2, 7, 3), (2, 7, 3))])
def test_features_that_do_not_fit_are_refused(shapes):
    words = f'with the same N and C: student {re.escape(str(shapes[0]))}, teacher {re.escape(str(shapes[1]))}$'
    with pytest.raises(ValueError, match=words):
        FeatureAlignLoss()(*features(*shapes))
