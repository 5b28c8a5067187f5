"""LogitStandardization: its formula, and the losses behind it."""
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn import functional as F

from mmkd_atsc.models.connectors import LogitStandardization
from tests.conftest import ROOT, tiny_classifier
from tests.test_models.distillation import LABELS
from tests.test_models.test_losses.aekt_cases import aekt_loss


def by_hand(logits, tau):
    logits = np.asarray(logits, dtype=np.float64)
    mean = logits.sum(1, keepdims=True) / logits.shape[1]
    deviation = np.sqrt(((logits - mean)**2).sum(1, keepdims=True) / (logits.shape[1] - 1))
    return (logits - mean) / deviation / tau


def random_logits(num_samples=16, num_classes=100, scale=3.0):
    return scale * torch.randn(num_samples, num_classes, generator=torch.Generator().manual_seed(0)) + 1.0


@pytest.mark.parametrize('num_classes', [2, 100])
@pytest.mark.parametrize('scale', [0.1, 1e4])
@pytest.mark.parametrize('tau', [1.0, 4.0])
def test_it_is_the_papers_formula(num_classes, scale, tau):
    logits, standardize = scale * random_logits(8, num_classes).double(), LogitStandardization(tau)
    np.testing.assert_allclose(standardize(logits), by_hand(logits, tau), rtol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_it_computes_in_fp32_under_autocast(dtype):
    logits = random_logits().to(dtype)
    with torch.autocast('cpu', torch.bfloat16):
        answer = LogitStandardization()(logits)
    assert answer.dtype == torch.float32
    np.testing.assert_allclose(answer, by_hand(logits.float(), 2.0), rtol=0, atol=1e-6)


def test_equal_logits_become_zeros_and_give_finite_gradients():
    logits = torch.full((4, 10), 3.0, requires_grad=True)
    answer = LogitStandardization()(logits)
    F.cross_entropy(answer, torch.arange(4)).backward()
    assert not answer.any() and logits.grad.isfinite().all()


@pytest.mark.parametrize('pair, beta, gamma, weight', [
    ('resnet32x4_resnet8x4', 8.0, 0.5, 36.0), ('resnet110_resnet32', 2.0, 0.3, 60.0)])
@pytest.mark.parametrize('method', ['kd', 'dkd', 'aekt'])
def test_a_pairs_loss_is_that_of_logits_standardized_for_each_teacher(method, pair, beta, gamma, weight, batch):
    distiller = Config.fromfile(ROOT / 'configs' / method / f'{pair}_ls_cifar100.py').model.distiller
    if method == 'aekt':
        distiller.num_classes = distiller.connectors.fc[0].num_classes = 10
    else:
        distiller.type = 'mmkd_atsc.MultiTeacherDistiller'
    torch.manual_seed(0)
    teachers = dict(big=tiny_classifier(8), deep=tiny_classifier(4, depth=14))
    model = MODELS.build(dict(type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), teacher=teachers,
                              allow_random_teacher=True, distiller=distiller)).eval()
    losses = model(*batch, mode='loss')
    student = torch.from_numpy(by_hand(model.student(batch[0]).detach(), 2.0))
    for name, teacher in model.teachers.items():
        logits = torch.from_numpy(by_hand(teacher(batch[0]), 2.0))
        if method == 'kd':
            expected = 36 * F.kl_div(student.log_softmax(1), logits.softmax(1), reduction='batchmean')
        else:
            expected = weight * aekt_loss(student, logits, LABELS, tau=1.0, beta=beta,
                                          gamma=gamma if method == 'aekt' else 0.0)
        torch.testing.assert_close(losses[f'distill.{name}.loss_{method}'].double(), expected / 2, rtol=1e-5, atol=0)
