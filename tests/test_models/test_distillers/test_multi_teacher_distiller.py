"""Several frozen teachers: what each loss reads, how it is averaged, and that one teacher is the same code."""
import copy

import pytest
import torch
from mmengine.registry import MODELS

from mmkd_atsc.models.aggregate import aggregate_logits
from tests.conftest import tiny_classifier
from tests.test_models.distillation import LABELS, divergence, train
from tests.test_models.distillation import kd as kd_options


def kd(mapping=None, **options):
    return dict(kd_options(mapping), type='mmkd_atsc.MultiTeacherDistiller', **options)


def distill(distiller, teacher=None, **options):
    torch.manual_seed(0)
    if teacher is None:
        teacher = dict(big=tiny_classifier(8), deep=tiny_classifier(4, depth=14))
    options.setdefault('allow_random_teacher', True)
    return MODELS.build(dict(type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), teacher=teacher,
                             distiller=distiller, **options))


def answers(model, images):
    return model.student(images), [teacher(images) for teacher in model.teachers.values()]


@pytest.mark.parametrize('mapping', [dict(teacher='all'), {}])
def test_applied_to_all_and_averaged_by_the_weights(batch, mapping):
    model = distill(kd(mapping), teacher_weights=[3, 1]).eval()
    losses = model(*batch, mode='loss')
    student, teachers = answers(model, batch[0])
    assert set(losses) == {'student.loss', 'distill.big.loss_kd', 'distill.deep.loss_kd'}
    torch.testing.assert_close(losses['distill.big.loss_kd'], 0.75 * divergence(student, teachers[0]))
    torch.testing.assert_close(losses['distill.deep.loss_kd'], 0.25 * divergence(student, teachers[1]))


@pytest.mark.parametrize('teacher', ['deep', 1])
def test_one_of_them_by_name_or_place(batch, teacher):
    model = distill(kd(dict(teacher=teacher))).eval()
    losses = model(*batch, mode='loss')
    student, teachers = answers(model, batch[0])
    assert set(losses) == {'student.loss', 'distill.loss_kd'}
    torch.testing.assert_close(losses['distill.loss_kd'], divergence(student, teachers[1]))
    model.teachers['big'].model.backbone.register_forward_hook(lambda *_: pytest.fail('nobody reads it'))
    model(*batch, mode='loss')


@pytest.mark.parametrize('how', ['mean_prob', 'mean_logit', 'confidence'])
def test_one_answer_of_all(batch, how):
    model = distill(kd(dict(teacher=how)), teacher_weights=dict(deep=1, big=3)).eval()
    losses = model(*batch, mode='loss')
    student, teachers = answers(model, batch[0])
    labels = LABELS if how == 'confidence' else None
    together = aggregate_logits(teachers, how, [3, 1], labels)
    torch.testing.assert_close(losses['distill.loss_kd'], divergence(student, together))


@pytest.mark.parametrize('mapping', [{}, dict(teacher='confidence')])
@pytest.mark.parametrize('distiller', ['kd', 'aekt'])
def test_twice_the_same_teacher_is_one_teacher(teacher_checkpoint, mapping, distiller):
    """Over ten steps, in train mode."""
    config = kd(mapping) if distiller == 'kd' else dict(type='mmkd_atsc.AEKTDistiller', num_classes=10, **mapping)
    plain = dict(config, type='mmrazor.ConfigurableDistiller') if config == kd() else config
    models = [distill(plain, tiny_classifier(8), teacher_ckpt=teacher_checkpoint, allow_random_teacher=False),
              distill(config, [tiny_classifier(8)], teacher_ckpt=[teacher_checkpoint]),
              distill(config, [tiny_classifier(8)] * 2, teacher_ckpt=[teacher_checkpoint] * 2,
                      teacher_weights=[0.5, 0.5])]
    start = copy.deepcopy(models[0].student.state_dict())
    for model in models:
        model.train()
        model.student.load_state_dict(start)
        train(model, 10)
    assert not torch.allclose(models[0].student.backbone.conv1.weight, start['backbone.conv1.weight'], atol=1e-3)
    for model in models[1:]:
        torch.testing.assert_close(model.student.state_dict(), models[0].student.state_dict(), atol=1e-6, rtol=1e-6)


def test_no_forward_and_no_connector_is_repeated(batch):
    config = kd(connectors=dict(fc=dict(type='mmkd_atsc.SerializationFC', num_classes=10)))
    config['loss_forward_mappings']['loss_kd']['preds_S'] = dict(from_student=True, recorder='logits', connector='fc')
    for name in ('all', 'big', 'mean_prob', 'confidence'):
        config['distill_losses'][f'loss_{name}'] = dict(type='KLDivergence')
        config['loss_forward_mappings'][f'loss_{name}'] = dict(
            preds_S=dict(from_student=True, recorder='logits'),
            preds_T=dict(from_student=False, recorder='logits', teacher=name))
    model, forwards = distill(config), []
    for network in [model.student, *(teacher.model for teacher in model.teachers.values())]:
        network.backbone.register_forward_hook(lambda module, *_: forwards.append(module))
    model.distiller.connectors['fc'].register_forward_hook(lambda module, *_: forwards.append(module))
    losses = model(*batch, mode='loss')
    assert len(losses) == 1 + 2 + 2 + 3 and len(forwards) == len(set(forwards)) == 4


def test_methods_are_recorded_teacher_by_teacher(batch):
    """MMRazor's method recorders wrap a class, not a network: each teacher's must hold its own calls alone."""
    config = kd()
    config['teacher_recorders'] = dict(logits=dict(
        type='MethodOutputs', source='mmpretrain.models.heads.linear_head.LinearClsHead.forward'))
    model = distill(config).eval()
    student, teachers = answers(model, batch[0])
    losses = model(*batch, mode='loss')
    torch.testing.assert_close(losses['distill.deep.loss_kd'], 0.5 * divergence(student, teachers[1]))


def test_aekt_of_two_teachers_logs_the_terms_of_each(batch):
    model = distill(dict(type='mmkd_atsc.AEKTDistiller', num_classes=10)).train()
    losses = model(*batch, mode='loss')
    assert {f'distill.{name}.{term}' for name in ('big', 'deep') for term in ('loss_aekt', 'tckd')} < set(losses)
    assert {'distill.accuracy_before_fc', 'distill.accuracy_after_fc'} < set(losses)


@pytest.mark.parametrize('changes, words', [
    (dict(preds_T=dict(teacher='bgi')), "loss_kd.preds_T: teacher='bgi' is not one of 'all'.*did you mean 'big'"),
    (dict(preds_T=dict(teacher=True)), 'teacher=True is not one of'),
    (dict(preds_T=dict(data_idx='techer')), "preds_T: data_idx='techer' must be an integer"),
    (dict(preds_T=dict(recorder='logit')), '"logit" must be in'),
    (dict(preds_S=dict(teacher='big')), "preds_S: from_student=True has no teacher='big'"),
    (dict(preds_S=dict(from_student=False, teacher='deep'), preds_T=dict(teacher='big')),
     'loss_kd asks for different teachers at once'),
])
def test_a_mapping_that_asks_for_what_is_not_there(changes, words):
    config = kd()
    for argument, change in changes.items():
        config['loss_forward_mappings']['loss_kd'][argument].update(change)
    with pytest.raises((ValueError, TypeError, AssertionError), match=words):
        distill(config)


@pytest.mark.parametrize('kind', ['mmkd_atsc.MultiTeacherDistiller', 'mmrazor.ConfigurableDistiller'])
def test_a_misspelt_key_of_a_mapping_is_refused_at_build(kind):
    config = kd()
    config['loss_forward_mappings']['loss_kd']['preds_S'] = dict(from_studnt=True, recorder='logits')
    with pytest.raises(ValueError, match="loss_kd.preds_S: key='from_studnt' is not .*; did you mean 'from_student'?"):
        distill(dict(config, type=kind))


def test_deliveries_are_for_one_teacher():
    method = 'mmpretrain.models.heads.linear_head.LinearClsHead.forward'
    deliveries = dict(distill_deliveries=dict(aug=dict(type='MethodOutputs', max_keep_data=1, method_path=method)))
    distill(kd(**deliveries), [tiny_classifier(8)])
    with pytest.raises(ValueError, match=r'distill_deliveries \(aug\).*2 teachers are given \(big, deep\)'):
        distill(kd(**deliveries))


@pytest.mark.parametrize('name', ['two words', 'lossless', 'student', 'keys', 3])
def test_names_that_would_be_misread_are_refused(name):
    with pytest.raises(ValueError, match=f'teacher: {name!r} cannot be a name'):
        distill(kd(), {name: tiny_classifier(8), 'big': tiny_classifier(8)})
