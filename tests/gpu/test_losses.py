"""On a GPU: the losses and their gradients are those of the CPU. MMKD_TEST_DEVICE=cuda pytest tests/gpu"""
import pytest
import torch

from mmkd_atsc.models.losses import AEKTLoss, TeacherAnchorLoss
from tests.conftest import needs_gpu

pytestmark = needs_gpu


def value_and_gradient(device, shape, **options):
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, *shape, generator=generator)
    labels = torch.randint(shape[1], shape[:1], generator=generator).to(device)
    student = student.to(device).requires_grad_()
    loss = AEKTLoss(**options)
    value = loss(student, teacher.to(device), labels)
    value.backward()
    return value.detach().cpu(), student.grad.cpu(), {name: float(term) for name, term in loss.terms.items()}


@pytest.mark.parametrize('shape', [(64, 100), (7, 10), (33, 1000)])
@pytest.mark.parametrize('options', [dict(), dict(target_form='no_confidence'), dict(max_ratio=None, gamma=0.01)])
def test_aekt(shape, options):
    expected, got = (value_and_gradient(device, shape, **options) for device in ('cpu', 'cuda'))
    torch.testing.assert_close(got[0], expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=1e-6)
    assert got[2] == pytest.approx(expected[2], rel=1e-4)


def test_anchor():
    values = []
    for device in ('cpu', 'cuda'):
        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 8, 3).to(device)
        anchor = TeacherAnchorLoss()
        anchor.bind(layer)
        with torch.no_grad():
            layer.weight.mul_(1.5)
        loss = anchor()
        loss.backward()
        values.append((loss.detach().cpu(), layer.weight.grad.cpu()))
    for got, expected in zip(*values):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
