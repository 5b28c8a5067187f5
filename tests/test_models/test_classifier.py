"""A network is cut into an encoder and a classifier, which together are the network."""
import pytest
import torch
from mmpretrain.models import ImageClassifier, heads
from mmpretrain.models.backbones import LeNet5
from mmpretrain.models.necks import GlobalAveragePooling
from torch import nn

from mmkd_atsc.models.classifier import Classifier, last_feature, split_classifier
from mmkd_atsc.models.heads import SharedClassifierHead


def network(head, neck=None):
    return ImageClassifier(backbone=nn.Identity(), neck=neck, head=head)


@pytest.mark.parametrize('training', [True, False])
def test_detached_gradients_flow_to_the_features_only(training):
    head = heads.StackedLinearClsHead(5, 8, [6], norm_cfg=dict(type='BN1d')).train(training)
    plain, detached = (torch.randn(4, 8).requires_grad_() for _ in range(2))
    detached.data.copy_(plain.data)
    before = {key: value.clone() for key, value in head.state_dict().items()}
    logits = Classifier(None, head).run_detached(detached)
    logits.square().sum().backward()
    assert all(parameter.grad is None for parameter in head.parameters())
    assert all(torch.equal(before[key], value) for key, value in head.state_dict().items())
    reference = Classifier(None, head)(plain)
    reference.square().sum().backward()
    assert torch.equal(logits, reference)
    assert torch.equal(detached.grad, plain.grad) and plain.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert int(head.layers[0].norm.num_batches_tracked) == int(training)


def test_last_feature():
    first, last = torch.zeros(1, 2), torch.ones(1, 3)
    assert last_feature((first, last)) is last
    assert last_feature(last) is last
    assert torch.equal(last_feature((first, [first, last])), torch.cat([first, last], 1))
    with pytest.raises(TypeError, match='teacher: the last output is a list of 2, one tensor is needed'):
        last_feature((first, [torch.zeros(1, 2, 4, 4), last]), 'teacher')
    with pytest.raises(TypeError, match='the last output is a dict'):
        last_feature({'feature': first})


class Outputs(nn.Module):
    """A backbone that gives several outputs; its last one is made by ``last``."""

    def __init__(self, channels, last=lambda maps: maps[-1]):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, width, 3, stride=2**i, padding=1) for i, width in enumerate(channels))
        self.last = last

    def forward(self, images):
        maps = [conv(images) for conv in self.convs]
        return *maps[:-1], self.last(maps)


def vectors(maps):
    return [each.mean((2, 3)) for each in maps[-2:]]


def maps_to_vector(head):
    return ImageClassifier(Outputs([6, 8]), GlobalAveragePooling(), head)


def tokens_to_vector(head):
    return ImageClassifier(Outputs([6], lambda maps: maps[-1].flatten(2)), GlobalAveragePooling(dim=1), head)


NETWORKS = {
    'linear': lambda: maps_to_vector(heads.LinearClsHead(num_classes=5, in_channels=8)),
    'batch norm': lambda: maps_to_vector(heads.StackedLinearClsHead(5, 8, [6], norm_cfg=dict(type='BN1d'))),
    'vit': lambda: maps_to_vector(heads.VisionTransformerClsHead(5, 8, hidden_dim=6, init_cfg=None)),
    'levit': lambda: maps_to_vector(heads.LeViTClsHead(5, in_channels=8)),
    'tokens': lambda: tokens_to_vector(heads.LinearClsHead(5, 6)),
    'efficientformer': lambda: tokens_to_vector(heads.EfficientFormerClsHead(5, 6)),
    'two tokens': lambda: ImageClassifier(Outputs([6, 6], vectors), head=heads.DeiTClsHead(5, 6, init_cfg=None)),
    'two branches': lambda: ImageClassifier(Outputs([8, 6], vectors), head=heads.ConformerHead(5, [8, 6])),
    'several maps': lambda: ImageClassifier(
        Outputs([8, 8, 8, 8]), [dict(type='HRFuseScales', in_channels=[8] * 4, out_channels=16),
                                dict(type='GlobalAveragePooling')], heads.LinearClsHead(5, 16)),
}
every_network = pytest.mark.parametrize('name', NETWORKS)


def scores(samples):
    return torch.stack([sample.pred_score for sample in samples])


@every_network
def test_encoder_and_classifier_together_are_the_network(name):
    model, images = NETWORKS[name]().eval(), torch.randn(3, 3, 16, 16)
    encoder, classifier, source = split_classifier(model)
    feature = last_feature(encoder(images))
    assert feature.dim() in (2, 4)
    whole = scores(model(images, mode='predict'))
    assert whole.std() > 0
    torch.testing.assert_close(classifier(feature).softmax(1), whole)
    torch.testing.assert_close(classifier.run_detached((feature, )).softmax(1), whole)
    # No parameter is lost or in both, and the module named as source gives the feature.
    parts = [id(parameter) for part in (encoder, classifier) for parameter in part.parameters()]
    assert sorted(parts) == sorted(map(id, model.parameters()))
    seen = []
    model.get_submodule(source).register_forward_hook(lambda module, args, output: seen.append(output))
    encoder(images)
    torch.testing.assert_close(last_feature(seen[0]), feature)


@every_network
def test_a_student_leaves_with_a_copy_of_it(name):
    """Its config may name the neck's whole config, as the teacher's does."""
    model, images = NETWORKS[name]().eval(), torch.randn(3, 3, 16, 16)
    split = split_classifier(model)
    shared = SharedClassifierHead()
    shared.bind_teachers(dict(teacher=split))
    feature = last_feature(split.encoder(images))
    rebuilt = SharedClassifierHead(dict(neck=model.neck, head=NETWORKS[name]().head)).eval()
    rebuilt.load_state_dict(shared.release().state_dict(), strict=True)
    torch.testing.assert_close(rebuilt((feature, )), shared((feature, )))
    torch.testing.assert_close(scores(rebuilt.predict((feature, ))), scores(model(images, mode='predict')))
    assert rebuilt.pre_logits((feature, )).dim() == 2


@pytest.mark.parametrize('model, error, words', [
    (nn.Linear(2, 2), TypeError, 'teacher: a Linear cannot be split'),
    (network(None), ValueError, 'the ImageClassifier has no head'),
    (ImageClassifier(LeNet5(num_classes=5), head=heads.ClsHead()), ValueError, 'LeNet5 classifies inside the backbone'),
    (network(heads.ClsHead(), GlobalAveragePooling()), ValueError, r'neither neck nor head \(ClsHead\) has parameters'),
    (network(SharedClassifierHead()), ValueError, 'its SharedClassifierHead owns no classifier.*export_student'),
])
def test_a_network_that_cannot_be_split_is_refused_in_one_line(model, error, words):
    with pytest.raises(error, match=words) as caught:
        split_classifier(model)
    assert str(caught.value).startswith('teacher: ') and '\n' not in str(caught.value)
