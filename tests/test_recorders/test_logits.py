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


class Inner(nn.Module):
    """A network as Hugging Face's: it gives an object with logits."""

    def __init__(self):
        super().__init__()
        self.conv, self.classifier = nn.Conv2d(3, 6, 3, stride=4), nn.Linear(6, 10)

    def forward(self, images):
        return SimpleNamespace(logits=self.classifier(self.conv(images).mean((2, 3))))


class HuggingFace(HuggingFaceClassifier):
    """MMPretrain's classifier around :class:`Inner`; MMPretrain's own constructor needs transformers."""

    def __init__(self):
        BaseClassifier.__init__(self, data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'))
        self.model, self.loss_module = Inner(), MODELS.build(dict(type='mmpretrain.CrossEntropyLoss'))
        self._register_state_dict_hook(self._remove_state_dict_prefix)
        self._register_load_state_dict_pre_hook(self._add_state_dict_prefix)


class Own(BaseModel):
    """A model that reads the data samples in each of its modes."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 10, 3, stride=4), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, inputs, data_samples=None, mode='tensor'):
        labels, logits = torch.cat([sample.gt_label for sample in data_samples]), self.net(inputs)
        return dict(loss=F.cross_entropy(logits, labels)) if mode == 'loss' else logits


def timm():
    pytest.importorskip('timm')
    return TimmClassifier('test_resnet', num_classes=10)


def algorithm(distiller, student=None, teacher=None):
    student, teacher = student or MODELS.build(tiny_classifier(4)), teacher or MODELS.build(tiny_classifier(8))
    return MODELS.build(dict(type='mmkd_atsc.MultiTeacherDistill', architecture=student, teacher=teacher,
                             allow_random_teacher=True, distiller=distiller)).eval()


def expected_loss(model, batch):
    """AEKT's loss or KD's of the networks' own answers."""
    student, teacher = model.student(*batch), model.teacher(*batch)
    return aekt_loss(student, teacher, LABELS) if hasattr(model.distiller, 'fc') else divergence(student, teacher)


@pytest.mark.parametrize('distiller', [AEKT, KD, MMRAZOR_KD], ids=['aekt', 'kd', 'mmrazor'])
@pytest.mark.parametrize('network', [timm, HuggingFace, Own])
def test_a_teacher_without_a_head_teaches(network, distiller, batch):
    model = algorithm(distiller, teacher=network())
    losses = model(*batch, mode='loss')
    name, = (name for name in losses if name.startswith('distill.loss'))
    torch.testing.assert_close(losses[name], expected_loss(model, batch))


@pytest.mark.parametrize('distiller', [AEKT, KD], ids=['aekt', 'kd'])
@pytest.mark.parametrize('network', [timm, HuggingFace])
def test_a_student_without_a_head_learns_and_resumes(network, distiller, batch):
    model, other = (algorithm(distiller, student=network(), teacher=network()) for _ in range(2))
    train(model, 2)
    other.load_state_dict(model.eval().state_dict())
    losses, again = model(*batch, mode='loss'), other(*batch, mode='loss')
    torch.testing.assert_close(again, losses)
    if distiller is KD:
        torch.testing.assert_close(losses['distill.loss_kd'], expected_loss(model, batch))


def test_a_student_of_ones_own_names_its_module(batch):
    with pytest.raises(ValueError, match="logits has source='head', which is no module of the student .*it has net"):
        algorithm(KD, student=Own())
    net = dict(logits=dict(type='mmrazor.ModuleOutputs', source='net'))
    with pytest.raises(ValueError, match="source='head.loss_module', .*; type='mmkd_atsc.Labels' needs no source"):
        algorithm(dict(AEKT, student_recorders=net), student=Own())
    model = algorithm(dict(AEKT, student_recorders=dict(net, labels=dict(type='mmkd_atsc.Labels'))), student=Own())
    torch.testing.assert_close(model(*batch, mode='loss')['distill.loss_aekt'], expected_loss(model, batch))


def test_hugging_faces_own_network_teaches(tmp_path, batch):
    transformers = pytest.importorskip('transformers')
    transformers.ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
                           image_size=32, patch_size=8, num_labels=10).save_pretrained(tmp_path)
    model = algorithm(AEKT, teacher=HuggingFaceClassifier(str(tmp_path)))
    torch.testing.assert_close(model(*batch, mode='loss')['distill.loss_aekt'], expected_loss(model, batch))
    assert model.first_teacher.num_classes == 10
