"""AEKTDistiller: what it computes, where it fits in, what of it can be replaced, and that it leaves nothing behind."""
import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.models import ImageClassifier
from mmpretrain.models.heads import ConformerHead, EfficientFormerClsHead, MultiLabelClsHead
from torch import nn
from torch.nn import functional as F

from mmkd_atsc.models.algorithms import MultiTeacherDistill
from mmkd_atsc.models.connectors import SerializationFC
from mmkd_atsc.models.distillers import AEKTDistiller
from tests.conftest import tiny_classifier
from tests.test_models.distillation import LABELS, divergence, kd, optimizer_of, train
from tests.test_models.test_losses.aekt_cases import aekt_loss

TERMS = {'tckd', 'nckd', 'target', 'ratio', 'student_confidence', 'teacher_confidence', 'accuracy_before_fc',
         'accuracy_after_fc'}
PAPERS = dict(gamma=1.0, max_pull=None)


def build(checkpoint, distiller=None, student=None, algorithm=None, **options):
    torch.manual_seed(0)
    distiller = distiller or dict(type='mmkd_atsc.AEKTDistiller', **options)
    return MODELS.build(dict(type='mmkd_atsc.MultiTeacherDistill', architecture=student or tiny_classifier(4),
                             teacher=tiny_classifier(8), teacher_ckpt=checkpoint, distiller=distiller,
                             **(algorithm or {})))


def scramble(connector):
    """Away from the identity, so that before and after the layer are two things."""
    generator = torch.Generator().manual_seed(5)
    for parameter in connector.parameters():
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator))


def logits_by_hand(model, images):
    """z and u = W z + b of the student, and the teacher's."""
    z = model.student.head.fc(model.student.backbone(images)[-1].mean((2, 3)))
    fc = model.distiller.connectors['fc'].fc
    return z, z @ fc.weight.t() + fc.bias, model.teacher(images)


def test_the_loss_is_aekts_after_the_layer_and_the_cross_entropy_is_before_it(teacher_checkpoint, batch):
    options = dict(tau=3.0, alpha=0.5, beta=2.0, gamma=0.7, target_form='no_confidence', max_ratio=1.5)
    model = build(teacher_checkpoint, max_pull=None, **options).eval()
    scramble(model.distiller.fc)
    losses = model(*batch, mode='loss')
    z, u, v = logits_by_hand(model, batch[0])
    assert (z - u).abs().max() > 0.1
    by_hand = [F.cross_entropy(z, LABELS), aekt_loss(u, v, LABELS, **options)]
    torch.testing.assert_close([losses['student.loss'], losses['distill.loss_aekt']], by_hand)
    learning = [*model.student.parameters(), *model.distiller.parameters()]
    total, _ = model.parse_losses(losses)
    torch.testing.assert_close(torch.autograd.grad(total, learning), torch.autograd.grad(sum(by_hand), learning),
                               rtol=1e-4, atol=1e-6)
    assert not any(parameter.requires_grad for parameter in model.teachers.parameters())


def test_the_log_has_the_terms_as_an_independent_computation_gives_them(teacher_checkpoint, batch):
    model = build(teacher_checkpoint, **PAPERS).eval()
    scramble(model.distiller.fc)
    model.teacher.head.fc.bias.data[LABELS[1]] += 20
    losses = model(*batch, mode='loss')
    logged = {name[len('distill.'):]: value for name, value in losses.items() if name.startswith('distill.')}
    assert set(logged) == TERMS | {'loss_aekt'} and not any('loss' in name for name in TERMS)
    z, u, v = (logits.detach().double() for logits in logits_by_hand(model, batch[0]))
    student, teacher = (u / 4).softmax(1), (v / 4).softmax(1)
    p, q = (probabilities[torch.arange(4), LABELS] for probabilities in (student, teacher))
    others = ~F.one_hot(LABELS, 10).bool()
    rest_p, rest_q = (x[others].view(4, 9) / x[others].view(4, 9).sum(1, keepdim=True) for x in (student, teacher))
    ratio = q / p
    assert ratio.min() < 2 < ratio.max()  # the ratio in the log is not bounded
    expected = dict(
        tckd=q * ratio.log() + (1 - q) * ((1 - q) / (1 - p)).log(), nckd=(rest_q * (rest_q / rest_p).log()).sum(1),
        target=torch.where(ratio <= 2, ratio, 2 * (1 + (ratio / 2).log())), ratio=ratio, student_confidence=p,
        teacher_confidence=q, accuracy_before_fc=100.0 * (z.argmax(1) == LABELS).double(),
        accuracy_after_fc=100.0 * (u.argmax(1) == LABELS).double())
    for name, value in expected.items():
        torch.testing.assert_close(logged[name].double(), value.mean(), rtol=1e-4, atol=1e-6, msg=name)
        assert not logged[name].requires_grad
    total, log = model.parse_losses(losses)
    torch.testing.assert_close(total, losses['student.loss'] + losses['distill.loss_aekt'])
    assert {f'distill.{name}' for name in TERMS} <= log.keys()


def test_without_the_layer_and_without_the_log(teacher_checkpoint, batch):
    model = build(teacher_checkpoint, with_fc=False, **PAPERS).eval()
    losses = model(*batch, mode='loss')
    assert {name[8:] for name in losses if name.startswith('distill.')} == TERMS - {'accuracy_after_fc'} | {'loss_aekt'}
    assert not list(model.distiller.parameters())
    torch.testing.assert_close(losses['distill.loss_aekt'],
                               aekt_loss(model.student(batch[0]), model.teacher(batch[0]), LABELS))
    assert set(build(teacher_checkpoint, log_terms=False)(*batch, mode='loss')) == {'student.loss', 'distill.loss_aekt'}


@pytest.mark.parametrize('default_scope', ['mmpretrain', 'mmrazor'])
@pytest.mark.parametrize('distiller', [dict(type='mmkd_atsc.AEKTDistiller', num_classes=10),
                                       dict(kd(), type='mmrazor.ConfigurableDistiller')], ids=['aekt', 'kd'])
def test_mmrazors_own_algorithm_has_the_same_losses_and_gradients(teacher_checkpoint, batch, distiller, default_scope):
    from mmengine.registry import DefaultScope
    ours = build(teacher_checkpoint, distiller).train()
    images = dict(data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'))
    with DefaultScope.overwrite_default_scope(default_scope):
        theirs = MODELS.build(dict(
            type='SingleTeacherDistill', _scope_='mmrazor', architecture=tiny_classifier(4, **images),
            teacher=tiny_classifier(8, **images), teacher_ckpt=teacher_checkpoint, distiller=distiller))
    theirs.train()
    theirs.teacher.eval()
    theirs.student.load_state_dict(ours.student.state_dict())
    expected, found = ours(*batch, mode='loss'), theirs(*batch, mode='loss')
    torch.testing.assert_close(found, expected)
    for model, losses in ((ours, expected), (theirs, found)):
        model.parse_losses(losses)[0].backward()
    torch.testing.assert_close(*([p.grad for p in model.student.parameters()] for model in (ours, theirs)))
    assert all(p.grad is None for p in ours.teachers.parameters())


# MMPretrain's DeiT: mixup and CutMix stand in the student's train_cfg, the data_preprocessor beside the model.
DEIT = dict(
    cfg_path='mmpretrain::deit/deit-tiny_4xb256_in1k.py', head=dict(num_classes=10, in_channels=24),
    backbone=dict(img_size=32, patch_size=8, arch=dict(
        _delete_=True, embed_dims=24, num_layers=1, num_heads=2, feedforward_channels=24)))


def test_batch_augmentations_are_the_users_to_switch_off_and_never_lost(teacher_checkpoint):
    found = build(teacher_checkpoint, student=DEIT, algorithm=dict(data_preprocessor=dict(num_classes=10)))
    assert [type(one).__name__ for one in found.data_preprocessor.batch_augments.augments] == ['Mixup', 'CutMix']
    off = dict(data_preprocessor=dict(num_classes=10, batch_augments=None))
    assert build(teacher_checkpoint, student=DEIT, algorithm=off).data_preprocessor.batch_augments is None
    lost = dict(data_preprocessor=dict(type='mmengine.ImgDataPreprocessor'))
    with pytest.raises(ValueError, match='batch augmentations would be lost: ImgDataPreprocessor has none'):
        build(teacher_checkpoint, student=DEIT, algorithm=lost)


def test_replaced_and_added_losses_with_their_mappings(teacher_checkpoint, batch):
    options = kd()
    options['distill_losses']['loss_aekt'] = dict(type='mmkd_atsc.AEKTLoss', tau=1.0, max_pull=None)
    model = build(teacher_checkpoint, **options).eval()
    losses = model(*batch, mode='loss')
    z, v = model.student(batch[0]), model.teacher(batch[0])
    torch.testing.assert_close(losses['distill.loss_aekt'], aekt_loss(z, v, LABELS, tau=1.0))
    torch.testing.assert_close(losses['distill.loss_kd'], divergence(z, v))


@pytest.mark.parametrize('rules', [{}, dict(paramwise_cfg=dict(custom_keys={'fc': dict(lr_mult=3.0)}))])
def test_the_layer_has_a_group_of_its_own(teacher_checkpoint, rules):
    model = build(teacher_checkpoint, fc_lr_mult=0.02, fc_weight_decay=0.25)
    optimizer = optimizer_of(model, **rules).optimizer
    layer = set(model.distiller.parameters())
    groups = [group for group in optimizer.param_groups if layer & set(group['params'])]
    assert all(set(group['params']) <= layer for group in groups)
    assert {parameter for group in groups for parameter in group['params']} == layer and len(layer) == 2
    assert all(group['lr'] == pytest.approx(0.001) and group['weight_decay'] == 0.25 for group in groups)
    in_all = [parameter for group in optimizer.param_groups for parameter in group['params']]
    assert len(in_all) == len(set(in_all)) and set(in_all) == layer | set(model.student.parameters())


def test_the_layer_is_absent_at_inference(teacher_checkpoint, batch):
    model = build(teacher_checkpoint).eval()
    scramble(model.distiller.fc)
    model.distiller.fc.register_forward_hook(lambda *_: pytest.fail('the layer ran at inference'))
    found = torch.stack([sample.pred_score for sample in model(*batch, mode='predict')])
    expected = torch.stack([sample.pred_score for sample in model.student(*batch, mode='predict')])
    assert torch.equal(found, expected)
    assert torch.equal(model(*batch, mode='tensor'), model.student(batch[0]))
    exported = {key for key in model.state_dict() if key.startswith('architecture.')}
    assert exported == {f'architecture.{key}' for key in MODELS.build(tiny_classifier(4)).state_dict()}


def test_a_frozen_identity_changes_nothing_bit_for_bit(teacher_checkpoint):
    with_layer, without = build(teacher_checkpoint, fc_lr_mult=0), build(teacher_checkpoint, with_fc=False)
    start = without.student.head.fc.weight.detach().clone()
    train(with_layer, 5)
    train(without, 5)
    expected = without.student.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in with_layer.student.state_dict().items())
    assert not torch.equal(expected['head.fc.weight'], start)
    assert torch.equal(with_layer.distiller.fc.fc.weight, torch.eye(10))


@pytest.mark.parametrize('settings, error, message', [
    (dict(bta=2.0), TypeError, "AEKTDistiller has no option 'bta'; did you mean 'beta'?"),
    (dict(fc_lr=0.1), TypeError, "no option 'fc_lr'; did you mean 'fc_lr_mult'?"),
    (dict(num_classes=1), ValueError, 'num_classes=1 must be an integer at least 2'),
    (dict(max_pull=0), ValueError, 'max_pull=0 must be a number greater than 0'),
    (dict(with_fc='False'), TypeError, "with_fc='False' must be True or False"),
    (dict(fc_lr_mult=-0.1), ValueError, 'lr_mult=-0.1 must be a number at least 0'),
    (dict(fc_init='idenity'), ValueError, "did you mean 'identity'?"),
    (dict(beta=2.0, distill_losses=dict(loss_aekt=dict(type='mmkd_atsc.AEKTLoss'))), ValueError,
     'beta would be lost: distill_losses gives loss_aekt of its own'),
    (dict(loss_forward_mappings=dict(loss_aekt=dict(
        preds_S=dict(from_student=True, recorder='logits'), preds_T=dict(from_student=False, recorder='logits'),
        gt_labels=dict(from_student=True, recorder='labels', data_idx=1)))), ValueError,
     "no loss_forward_mappings entry has connector='fc'; set with_fc=False"),
])
def test_wrong_options_are_refused_in_one_line(settings, error, message):
    with pytest.raises(error) as caught:
        AEKTDistiller(**{'num_classes': 10, **settings})
    assert message in str(caught.value) and '\n' not in str(caught.value)


def test_heads_of_other_classes_are_refused_at_once(teacher_checkpoint):
    with pytest.raises(ValueError, match="num_classes=100, the student's head has 10"):
        build(teacher_checkpoint, num_classes=100)
    with pytest.raises(ValueError, match="num_classes=12, the teacher's head has 10"):
        build(teacher_checkpoint, student=tiny_classifier(4, num_classes=12), num_classes=12)


class TwoVectors(nn.Module):
    """A backbone whose last output is two vectors, as Conformer's is."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, stride=4)

    def forward(self, images):
        return ([self.conv(images).mean((2, 3)), self.conv(images).amax((2, 3))], )


@pytest.mark.parametrize('head, roles, words', [
    (MultiLabelClsHead(), ('student', 'teacher'), 'gives several labels an image'),
    (ConformerHead(10, [6, 6]), ('student', 'teacher'), 'gives the logits of two branches apart'),
    (EfficientFormerClsHead(10, 6), ('student', ), 'distillation branch, set distillation=False')])
def test_heads_without_one_answer_to_train_are_refused(head, roles, words):
    distiller = dict(type='mmkd_atsc.AEKTDistiller')
    one, several = MODELS.build(tiny_classifier(4)), ImageClassifier(TwoVectors(), head=head)
    for role in roles:
        student, teacher = (several if role == name else one for name in ('student', 'teacher'))
        with pytest.raises(ValueError, match=f'^{role}: .*{words}'):
            MultiTeacherDistill(student, teacher, distiller, allow_random_teacher=True)
    if 'teacher' not in roles:
        MultiTeacherDistill(one, several, distiller, allow_random_teacher=True)


def test_the_number_of_classes_is_that_of_the_heads(teacher_checkpoint):
    standardize = dict(type='mmkd_atsc.LogitStandardization')
    layers = dict(fc=[dict(type='mmkd_atsc.SerializationFC'), standardize])
    for options in ({}, dict(connectors=layers)):
        distiller = build(teacher_checkpoint, **options).distiller
        layer, = (module for module in distiller.modules() if isinstance(module, SerializationFC))
        assert torch.equal(layer.fc.weight, torch.eye(10)) and distiller.num_classes == 10
    with pytest.raises(ValueError, match='SerializationFC has num_classes=7, the heads have 10'):
        build(teacher_checkpoint, connectors=dict(fc=dict(type='mmkd_atsc.SerializationFC', num_classes=7)))


def test_a_student_that_tells_no_number_of_classes_has_that_of_its_last_layer():
    student, teacher = MODELS.build(tiny_classifier(4)), MODELS.build(tiny_classifier(4))
    del student.head.num_classes, teacher.head.num_classes
    model = MultiTeacherDistill(student, teacher, dict(type='mmkd_atsc.AEKTDistiller'), allow_random_teacher=True)
    assert model.distiller.fc.num_classes == 10
