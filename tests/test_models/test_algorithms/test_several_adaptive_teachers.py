"""ATSC with several teachers: each branch learns as it would alone, the encoder follows them by their weights."""
import copy

import pytest
import torch

from tests.conftest import tiny_classifier
from tests.test_models.distillation import VIT, batches, kd, optimizer_of, train
from tests.test_models.test_algorithms.test_adaptive_teacher_distill import AsTheyAre
from tests.test_models.test_algorithms.test_adaptive_teacher_distill import build as build_one


def student_config(names=(), **head):
    """A student for any teachers; for those of the names, in older configs' words."""
    config = tiny_classifier(4)
    config['neck'] = dict(type='mmkd_atsc.FeatureProjector')
    if names:
        config['neck'] = dict(type='mmkd_atsc.MultiFeatureProjector', projectors={name: {} for name in names})
    config['head'] = dict(type='mmkd_atsc.MultiClassifierHead' if names else 'mmkd_atsc.SharedClassifierHead', **head)
    return config


def build(teachers, checkpoints=None, student=None, **options):
    return build_one(checkpoints, student=student or student_config(), teacher=teachers,
                     allow_random_teacher=not checkpoints, **options)


def two(**options):
    return build(dict(big=tiny_classifier(8), deep=tiny_classifier(4, depth=14)), **options)


@pytest.mark.parametrize('count, options', [
    (1, {}), (2, {}), (2, dict(classifier_step='alternate', student_ce_weight=0.5)),
    (2, dict(adaptive=False, distiller=kd())), (2, dict(distiller=kd(dict(teacher='mean_prob'))))])
def test_five_steps_with_one_teacher_or_twice_the_same(teacher_checkpoint, count, options):
    """In train mode; with weights of one half every network goes where it goes with one teacher."""
    names = [f'teacher{i}' for i in range(count)]
    alone = build_one(teacher_checkpoint, **copy.deepcopy(options))
    torch.nn.init.ones_(alone.student.neck.layers[-2].weight)  # so that five steps lead somewhere
    several = build({name: tiny_classifier(8) for name in names}, [teacher_checkpoint] * count,
                    teacher_weights=[1 / count] * count, student=student_config(names), **options)
    several.student.backbone.load_state_dict(alone.student.backbone.state_dict())
    for name in names:
        several.student.neck.projectors[name].load_state_dict(alone.student.neck.state_dict())
    start = alone.student.backbone.conv1.weight.detach().clone()
    for model in (alone, several):
        train(model, 5)
    assert not torch.allclose(alone.student.backbone.conv1.weight, start, atol=1e-3)
    pairs = [(alone.student.backbone, several.student.backbone)]
    for name in names:
        pairs += [(alone.student.neck, several.student.neck.projectors[name]),
                  (alone.teacher, several.teachers[name].model)]
    for ours, theirs in pairs:
        torch.testing.assert_close(theirs.state_dict(), ours.state_dict(), atol=1e-6, rtol=1e-6)


def test_the_encoder_descends_the_weighted_sum_and_each_branch_its_own(batch):
    model = two(teacher_weights=dict(big=3, deep=1)).double()
    model.data_preprocessor = AsTheyAre()
    images = batch[0].double()
    losses = model(images, batch[1], mode='loss')
    sum(losses.values()).backward()
    shared = model.student.backbone.conv1.weight
    plain = copy.deepcopy(model)
    plain.zero_grad()
    plain.student.neck.teacher_grad_scales = dict(big=1, deep=1)
    losses = plain(images, batch[1], mode='loss')
    shares = [torch.autograd.grad(losses[f'distill.{name}.loss_align'], plain.student.backbone.conv1.weight,
                                  retain_graph=True)[0] for name in ('big', 'deep')]
    torch.testing.assert_close(shared.grad, 0.75 * shares[0] + 0.25 * shares[1])
    sum(losses.values()).backward()
    for name in ('big', 'deep'):
        for mine, other in ((model.student.neck.projectors[name], plain.student.neck.projectors[name]),
                            (model.teachers[name], plain.teachers[name])):
            torch.testing.assert_close(*([p.grad for p in module.parameters()] for module in (mine, other)))


def test_families_sizes_and_normalisations_mix(batch):
    teachers = dict(cnn=tiny_classifier(8), vit=VIT)
    model = build(teachers, data_preprocessor=dict(mean=[127.5] * 3, std=[64.] * 3))
    wrapper = optimizer_of(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    for data, _ in batches(2):
        assert model.train_step(data, wrapper)['loss'].isfinite()
    assert not [key for key, value in model.named_parameters() if torch.equal(before[key], value)]
    model.eval()
    vit = model.teachers['vit']
    images = batch[0] * 64 + 127.5
    own = images.flip(1) / 255
    torch.testing.assert_close(vit.encode(batch[0])[-1], vit.model.backbone(own)[-1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vit(batch[0]), vit.model(own), atol=1e-5, rtol=1e-4)


def rates(model, **options):
    """The learning rate of each parameter, by name."""
    by_id = {id(p): group['lr'] for group in optimizer_of(model, **options).optimizer.param_groups
             for p in group['params']}
    return {name: by_id[id(p)] for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize('multiples, big, deep', [
    (0.1, 0.1, 0.1), ([0.5, 1.0], 0.5, 1.0), (dict(deep=2.0, big=0.5), 0.5, 2.0)])
def test_each_teachers_encoder_and_classifier_have_its_learning_rate(multiples, big, deep):
    found = rates(two(teacher_lr_mult=multiples), paramwise_cfg=dict(norm_decay_mult=0.0))
    assert any(name.startswith('teachers.big.model.head.') for name in found)
    wanted = {'teachers.big.': 0.05 * big, 'teachers.deep.': 0.05 * deep}
    for name, rate in found.items():
        assert rate == pytest.approx(next((w for start, w in wanted.items() if name.startswith(start)), 0.05)), name


@pytest.mark.parametrize('options, words', [
    (dict(student=student_config(('deep', 'big'))),
     'projectors are for deep, big; the teachers are big, deep: names and order must agree'),
    (dict(teacher_lr_mult=0), 'teacher_lr_mult: big=0 must be a number greater than 0'),
    (dict(teacher_lr_mult=[1.0]), r'teacher_lr_mult has 1 entries for 2 teachers \(big, deep\)'),
    (dict(teacher_lr_mult=dict(big=1.0, dep=1.0)), 'teacher_lr_mult is for big, dep, the teachers are big, deep'),
])
def test_what_does_not_fit_the_teachers_is_refused_at_build(options, words):
    with pytest.raises(ValueError, match=words):
        two(**options)
