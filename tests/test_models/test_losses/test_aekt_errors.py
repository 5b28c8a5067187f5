"""What AEKT refuses, in one line."""
import math

import pytest
import torch

from mmkd_atsc.models.losses import AEKTLoss
from tests.test_models.test_losses.aekt_cases import aekt_loss, logits

BAD_SETTINGS = [
    (dict(tau=0), ValueError, 'tau=0 must be a number greater than 0'),
    (dict(tau='4'), TypeError, "tau='4'"),
    (dict(alpha=-1), ValueError, 'alpha=-1 must be a number at least 0'),
    (dict(beta=math.nan), ValueError, 'beta=nan'),
    (dict(target_form='no_confidense'), ValueError, "'no_confidence'; did you mean 'no_confidence'"),
    (dict(max_ratio=0), ValueError, 'max_ratio=0 must be a number greater than 0'),
    (dict(soft_target_topk=0), ValueError, 'soft_target_topk=0 must be an integer at least 1'),
    (dict(reduction='batchmean'), ValueError, "reduction='batchmean' is not one of 'mean', 'sum', 'none'"),
]


def refused(error, message, function, *args, **kwargs):
    with pytest.raises(error) as caught:
        function(*args, **kwargs)
    assert message in str(caught.value) and '\n' not in str(caught.value)


@pytest.mark.parametrize('settings, error, message', BAD_SETTINGS)
def test_bad_settings_are_refused_in_one_line(settings, error, message):
    refused(error, message, AEKTLoss, **settings)
    refused(error, message, aekt_loss, *logits(), **settings)


Z = torch.zeros
INDICES = Z(4, dtype=torch.long)


@pytest.mark.parametrize('student, teacher, labels, error, message', [
    (Z(4, 1), Z(4, 1), INDICES, ValueError, '(4, 1) must be (N, C) with at least 2 classes'),
    (Z(4), Z(4), INDICES, ValueError, 'student logits of shape (4,) must be (N, C)'),
    (Z(4, 5), Z(4, 6), INDICES, ValueError, '(4, 5) and teacher logits of shape (4, 6) differ'),
    (Z(4, 5), Z(4, 5), INDICES + 5, ValueError, 'label 5 is out of range: the logits have 5 classes, 0 to 4'),
    (Z(4, 5), Z(4, 5), INDICES - 1, ValueError, 'label -1 is out of range'),
    (Z(4, 5), Z(4, 5), INDICES.float(), TypeError, 'labels of shape (N,) must be integers, got torch.float32'),
    (Z(4, 5), Z(4, 5), INDICES[:3], ValueError, 'labels of shape (3,) must be (4,) class indices or (4, 5) scores'),
    (Z(4, 5), Z(4, 5), Z(4, 6), ValueError, 'labels of shape (4, 6)'),
    (Z(4, 5), Z(4, 5), Z(4, 5), ValueError, 'soft labels must be finite, not negative, and hold a positive score'),
    (Z(1, 3), Z(1, 3), torch.tensor([[2.0, -1.0, 0.0]]), ValueError, 'soft labels must be'),
    (Z(4, 5), Z(4, 5), Z(4, 5) + math.nan, ValueError, 'soft labels must be'),
])
def test_bad_tensors_are_refused_in_one_line(student, teacher, labels, error, message):
    refused(error, message, AEKTLoss(), student, teacher, labels)
