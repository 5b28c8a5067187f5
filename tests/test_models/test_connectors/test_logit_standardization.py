"""LogitStandardization: its formula, what it forgets of the logits, and the losses behind it."""
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn import functional as F

from mmkd_atsc.models.connectors import LogitStandardization
from tests.conftest import ROOT, tiny_classifier
from tests.test_configs_aekt import dkd, softmax

PAIRS = ('resnet32x4_resnet8x4', 'resnet110_resnet32')


def by_hand(logits, tau):
    logits = np.asarray(logits, dtype=np.float64)
    mean = logits.sum(1, keepdims=True) / logits.shape[1]
    deviation = np.sqrt(((logits - mean)**2).sum(1, keepdims=True) / (logits.shape[1] - 1))
    return (logits - mean) / deviation / tau


def random_logits(num_samples=16, num_classes=100, scale=3.0):
    return scale * torch.randn(num_samples, num_classes, generator=torch.Generator().manual_seed(0)) + 1.0


@pytest.mark.parametrize('num_classes', [2, 10, 100, 1000])
@pytest.mark.parametrize('scale', [0.1, 1.0, 1e4])
@pytest.mark.parametrize('tau', [1.0, 2.0, 4.0])
def test_it_is_the_papers_formula(num_classes, scale, tau):
    logits, standardize = scale * random_logits(8, num_classes).double(), LogitStandardization(tau)
    np.testing.assert_allclose(standardize(logits), by_hand(logits, tau), rtol=1e-6)
    if num_classes > 2:  # two logits that are close have few digits between them
        single = standardize(logits.float())
        assert single.dtype == torch.float32
        np.testing.assert_allclose(single, by_hand(logits.float(), tau), rtol=0, atol=1e-6)


def test_gradients_are_those_of_the_formula():
    logits = random_logits(3, 7).double().requires_grad_()
    assert torch.autograd.gradcheck(LogitStandardization(), (logits, ))


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


@pytest.mark.parametrize('logits', [torch.zeros(4, 10, 2), torch.zeros(4, 1), torch.zeros(4, 10, dtype=torch.long)])
def test_what_are_no_logits_is_refused(logits):
    with pytest.raises(ValueError, match='LogitStandardization got .* it takes logits'):
        LogitStandardization()(logits)
    with pytest.raises(ValueError, match='tau=0 must be a number greater than 0'):
        LogitStandardization(tau=0)


def distiller_of(method, pair, num_classes=10):
    """The distiller of a pair's config, for networks of fewer classes."""
    distiller = Config.fromfile(ROOT / 'configs' / method / f'{pair}_ls_cifar100.py').model.distiller
    if method == 'aekt':
        distiller.num_classes = distiller.connectors.fc[0].num_classes = num_classes
    return distiller


def kd(student, teacher):
    p, q = softmax(student), softmax(teacher)
    return (q * np.log(q / p)).sum(1).mean()


def target_pull(student, teacher, labels, bound=2.0):
    rows = np.arange(len(labels))
    ratio = softmax(teacher)[rows, labels] / softmax(student)[rows, labels]
    return np.where(ratio <= bound, ratio, bound * (1 + np.log(ratio / bound))).mean()


def expected_loss(method, pair, student, teacher, labels):
    beta, gamma, weight = dict(resnet32x4_resnet8x4=(8.0, 0.5, 36.0), resnet110_resnet32=(2.0, 0.3, 60.0))[pair]
    u, v = by_hand(student, 2.0), by_hand(teacher, 2.0)
    if method == 'kd':
        return 36.0 * kd(u, v)
    pull = gamma * target_pull(u, v, labels) if method == 'aekt' else 0.0
    return weight * (dkd(u, v, labels, beta, tau=1.0) + pull)


@pytest.mark.parametrize('pair', PAIRS)
@pytest.mark.parametrize('method', ['kd', 'dkd', 'aekt'])
def test_a_pairs_loss_is_that_of_logits_standardized_for_each_teacher(method, pair, batch):
    distiller = distiller_of(method, pair)
    if method != 'aekt':
        distiller.type = 'mmkd_atsc.MultiTeacherDistiller'
    torch.manual_seed(0)
    teachers = dict(big=tiny_classifier(8), deep=tiny_classifier(4, depth=14))
    model = MODELS.build(dict(type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), teacher=teachers,
                              allow_random_teacher=True, distiller=distiller)).eval()
    losses = model(*batch, mode='loss')
    student, labels = model.student(batch[0]).detach(), np.array([0, 3, 9, 1])
    torch.testing.assert_close(losses['student.loss'], F.cross_entropy(student, torch.tensor(labels)))
    for name, teacher in model.teachers.items():
        expected = expected_loss(method, pair, student, teacher(batch[0]), labels)
        np.testing.assert_allclose(losses[f'distill.{name}.loss_{method}'].item(), expected / 2, rtol=1e-5)
