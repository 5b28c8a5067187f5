import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.models import ImageClassifier
from mmpretrain.models.heads import (
    BEiTV2Head,
    ClsHead,
    ConformerHead,
    DeiTClsHead,
    EfficientFormerClsHead,
    LeViTClsHead,
    LinearClsHead,
    StackedLinearClsHead,
    VisionTransformerClsHead,
)
from mmpretrain.models.necks import GlobalAveragePooling, HRFuseScales
from torch import nn

from mmkd_atsc.models.classifier import check_shareable, classify, classify_detached, last_feature, split_classifier
from tests.conftest import tiny_classifier


def network(head, neck=None):
    return ImageClassifier(backbone=nn.Identity(), neck=neck, head=head)


def heads():
    return {
        'linear': LinearClsHead(num_classes=5, in_channels=8),
        'stacked with batch norm': StackedLinearClsHead(5, 8, [6], norm_cfg=dict(type='BN1d')),
        'vit': VisionTransformerClsHead(5, 8, hidden_dim=6, init_cfg=None),
        'efficientformer': EfficientFormerClsHead(5, 8, distillation=False),
    }


@pytest.mark.parametrize('name', heads())
def test_split_and_classify_is_the_network(name):
    torch.manual_seed(0)
    model = network(heads()[name], GlobalAveragePooling()).eval()
    backbone, neck, head = split_classifier(model)
    maps = torch.randn(3, 8, 4, 4)
    assert (backbone, neck, head) == (model.backbone, model.neck, model.head)
    whole = model((torch.randn(3, 4, 8, 8), maps))
    assert torch.equal(classify(neck, head, last_feature(backbone((None, maps)))), whole)
    assert torch.equal(classify(neck, head, (maps, )), whole)
    assert torch.equal(classify_detached(neck, head, maps), whole)
    assert whole.abs().sum() > 0


def test_a_built_network_splits():
    model = MODELS.build(tiny_classifier()).eval()
    backbone, neck, head = split_classifier(model)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(classify(neck, head, last_feature(backbone(images))), model(images))


@pytest.mark.parametrize('training', [True, False])
def test_detached_gradients_flow_to_the_features_only(training):
    torch.manual_seed(0)
    head = StackedLinearClsHead(5, 8, [6], norm_cfg=dict(type='BN1d')).train(training)
    plain, detached = (torch.randn(4, 8).requires_grad_() for _ in range(2))
    detached.data.copy_(plain.data)
    before = {key: value.clone() for key, value in head.state_dict().items()}

    logits = classify_detached(None, head, detached)
    logits.square().sum().backward()
    assert all(parameter.grad is None for parameter in head.parameters())
    assert all(torch.equal(before[key], value) for key, value in head.state_dict().items())
    assert all(parameter.requires_grad for parameter in head.parameters())

    reference = classify(None, head, plain)
    reference.square().sum().backward()
    assert torch.equal(logits, reference)
    assert torch.equal(detached.grad, plain.grad) and plain.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert int(head.layers[0].norm.num_batches_tracked) == int(training)


def test_detached_and_attached_in_one_backward():
    head = LinearClsHead(num_classes=5, in_channels=8)
    student, teacher = torch.randn(4, 8, requires_grad=True), torch.randn(4, 8)
    expected, = torch.autograd.grad(classify(None, head, teacher).square().sum(), head.fc.weight)
    (classify_detached(None, head, student).sum() + classify(None, head, teacher).square().sum()).backward()
    assert torch.equal(head.fc.weight.grad, expected)
    assert student.grad is not None


def test_the_heads_own_hooks_run():
    head, seen = LinearClsHead(num_classes=5, in_channels=8), []
    head.register_forward_hook(lambda module, args, output: seen.append(output.shape))
    classify(None, head, torch.zeros(2, 8))
    classify_detached(None, head, torch.zeros(2, 8))
    assert seen == [(2, 5), (2, 5)]


def test_last_feature():
    first, last = torch.zeros(1, 2), torch.ones(1, 3)
    assert last_feature((first, last)) is last
    assert last_feature(last) is last
    with pytest.raises(TypeError, match='teacher: the last output is a list of 2, one tensor is needed'):
        last_feature((first, [first, last]), 'teacher')
    with pytest.raises(TypeError, match='no output'):
        last_feature(())
    with pytest.raises(TypeError, match='the last output is a dict'):
        last_feature({'feature': first})


@pytest.mark.parametrize('model, error, words', [
    (nn.Linear(2, 2), TypeError, 'teacher: a Linear cannot be split'),
    (network(None), ValueError, 'the ImageClassifier has no head'),
    (network(BEiTV2Head(8, 5, loss=dict(type='CrossEntropyLoss'))), ValueError, 'BEiTV2Head has no forward'),
    (network(nn.Linear(8, 5)), ValueError, 'Linear has no loss and no predict'),
    (network(DeiTClsHead(5, 8)), ValueError, 'DeiTClsHead does not map one feature tensor to one tensor of logits'),
    (network(ConformerHead(5, [8, 8])), ValueError, 'ConformerHead does not map'),
    (network(LeViTClsHead(5, in_channels=8)), ValueError, 'distillation=False'),
    (network(EfficientFormerClsHead(5, 8)), ValueError, 'distillation=False'),
    (network(LinearClsHead(5, 8), HRFuseScales([8, 8, 8, 8])), ValueError, 'HRFuseScales reads 4 feature maps'),
    (network(LinearClsHead(5, 8), nn.Sequential(HRFuseScales([8, 8, 8, 8]))), ValueError, 'HRFuseScales reads 4'),
    (network(ClsHead(), GlobalAveragePooling()), ValueError, r'neither neck nor head \(ClsHead\) has parameters'),
])
def test_what_cannot_be_split_says_why_in_one_line(model, error, words):
    with pytest.raises(error, match=words) as caught:
        split_classifier(model)
    assert str(caught.value).startswith('teacher: ') and '\n' not in str(caught.value)


def test_role_names_the_network():
    with pytest.raises(TypeError, match=r'^teacher1: '):
        split_classifier(nn.Identity(), role='teacher1')
    with pytest.raises(TypeError, match='not NoneType and dict'):
        check_shareable(None, dict(type='LinearClsHead'))


def test_logits_must_be_one_tensor():
    class TwoLogits(LinearClsHead):

        def forward(self, feats):
            return super().forward(feats), super().forward(feats)

    for run in (classify, classify_detached):
        with pytest.raises(TypeError, match='TwoLogits gives a tuple'):
            run(None, TwoLogits(5, 8), torch.zeros(2, 8))
