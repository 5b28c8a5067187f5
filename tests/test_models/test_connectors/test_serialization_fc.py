"""SerializationFC: the identity it begins with, what keeps it, what training sees of it."""
import pytest
import torch
from mmengine.model import BaseModule, ModuleList
from torch import nn

from mmkd_atsc.models.connectors import SerializationFC


def random_logits(num_samples=32, num_classes=100, scale=10.0, dtype=torch.float32):
    return (scale * torch.randn(num_samples, num_classes, generator=torch.Generator().manual_seed(0))).to(dtype)


@pytest.mark.parametrize('num_classes', [2, 10, 100, 1000])
@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_identity_leaves_finite_logits_as_they_are_bit_for_bit(num_classes, bias, dtype):
    """Every product but one is a zero, so no order of summation rounds; the sign of a zero alone may go."""
    connector = SerializationFC(num_classes, bias=bias).to(dtype)
    logits = random_logits(num_classes=num_classes, dtype=dtype)
    assert torch.equal(connector(logits), logits)
    assert torch.equal(connector.forward_train(logits[:1]), logits[:1])


def test_identity_survives_the_init_cfg_of_the_model_around_it():
    class Model(BaseModule):

        def __init__(self):
            super().__init__(init_cfg=dict(type='Normal', layer='Linear', std=1.0))
            self.head = nn.Linear(10, 10)
            self.connectors = ModuleList([SerializationFC(10)])

    model = Model()
    model.init_weights()
    assert model.head.weight.abs().max() > 1  # the model's own layer was drawn anew
    assert torch.equal(model.connectors[0].fc.weight, torch.eye(10))
