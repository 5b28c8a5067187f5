"""Networks without a head teach and learn: timm's, Hugging Face's, and a model of one's own."""
from types import SimpleNamespace

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmpretrain.models.classifiers import HuggingFaceClassifier, TimmClassifier
from mmpretrain.models.classifiers.base import BaseClassifier
from torch import nn
from torch.nn import functional as F

from tests.conftest import tiny_classifier
from tests.test_models.distillation import LABELS, divergence, kd, train
from tests.test_models.test_losses.aekt_cases import aekt_loss

AEKT = dict(type='mmkd_atsc.AEKTDistiller')
KD = dict(type='mmkd_atsc.MultiTeacherDistiller', **kd())
MMRAZOR_KD = dict(type='mmrazor.ConfigurableDistiller', **kd())


class Own(BaseModel):
    """A model that reads the data samples in each of its modes."""

    def __init__(self, folder):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 10, 3, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, inputs, data_samples=None, mode='tensor'):
        labels, logits = torch.cat([sample.gt_label for sample in data_samples]), self.net(inputs)
        return dict(loss=F.cross_entropy(logits, labels)) if mode == 'loss' else logits


class StandIn(HuggingFaceClassifier):
    """MMPretrain's classifier without transformers, around a network that gives an object with logits."""

    def __init__(self, folder):
        BaseClassifier.__init__(self, data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'))
        self.model, self.loss_module = Own(folder).net, MODELS.build(dict(type='mmpretrain.CrossEntropyLoss'))
        self.model.register_forward_hook(lambda module, images, logits: SimpleNamespace(logits=logits))
        self._register_state_dict_hook(self._remove_state_dict_prefix)
        self._register_load_state_dict_pre_hook(self._add_state_dict_prefix)


def timm(folder):
    pytest.importorskip('timm')
    return TimmClassifier('test_resnet', num_classes=10)


def algorithm(distiller, student=None, teacher=None):
    student, teacher = student or MODELS.build(tiny_classifier(4)), teacher or MODELS.build(tiny_classifier(8))
    return MODELS.build(dict(type='mmkd_atsc.MultiTeacherDistill', architecture=student, teacher=teacher,
                             allow_random_teacher=True, distiller=distiller)).eval()


def check_loss(model, batch):
    """The distiller's loss is that of the networks' own answers; a teacher of timm gets timm's normalisation."""
    (name, loss), = ((name, loss) for name, loss in model(*batch, mode='loss').items() if 'distill.loss' in name)
    formula = divergence if name.endswith('kd') else lambda *answers: aekt_loss(*answers, LABELS, gamma=0.25)
    torch.testing.assert_close(loss, formula(model.student(*batch), model.first_teacher(*batch)))


@pytest.mark.parametrize('distiller', [AEKT, KD, MMRAZOR_KD], ids=['aekt', 'kd', 'mmrazor'])
@pytest.mark.parametrize('network', [timm, StandIn, Own])
def test_a_teacher_without_a_head_teaches(network, distiller, batch, tmp_path):
    check_loss(algorithm(distiller, teacher=network(tmp_path)), batch)


@pytest.mark.parametrize('distiller', [AEKT, KD], ids=['aekt', 'kd'])
@pytest.mark.parametrize('network', [timm, StandIn])
def test_a_student_without_a_head_learns_and_resumes(network, distiller, batch, tmp_path):
    model, other = (algorithm(distiller, network(tmp_path), network(tmp_path)) for _ in range(2))
    check_loss(model, batch)
    train(model, 2)
    other.load_state_dict(model.eval().state_dict())
    torch.testing.assert_close(other(*batch, mode='loss'), model(*batch, mode='loss'))


def test_a_student_of_ones_own_names_its_module(batch):
    with pytest.raises(ValueError, match="logits has source='head', which the student .* not have; it has .*net"):
        algorithm(KD, Own(None))
    net = dict(logits=dict(type='mmrazor.ModuleOutputs', source='net'))
    with pytest.raises(ValueError, match="source='head.loss_module', .*; type='mmkd_atsc.Labels' needs no source"):
        algorithm(dict(AEKT, student_recorders=net), Own(None))
    labels = dict(type='mmkd_atsc.Labels')
    check_loss(algorithm(dict(AEKT, student_recorders=dict(net, labels=labels)), Own(None)), batch)
