"""The learning rate of teachers that adapt."""
import pytest

from tests.conftest import tiny_classifier
from tests.test_models.distillation import optimizer_of
from tests.test_models.test_algorithms.test_several_adaptive_teachers import build as build_several


def rates(model, **options):
    """The learning rate of each parameter, by name."""
    by_id = {id(p): group['lr'] for group in optimizer_of(model, **options).optimizer.param_groups
             for p in group['params']}
    return {name: by_id[id(p)] for name, p in model.named_parameters() if p.requires_grad}


def several(**options):
    return build_several(dict(big=tiny_classifier(8), small=tiny_classifier(8)), **options)


@pytest.mark.parametrize('multiples, big, small', [
    (0.1, 0.1, 0.1), ([0.5, 1.0], 0.5, 1.0), (dict(small=2.0, big=0.5), 0.5, 2.0)])
def test_each_teachers_encoder_and_classifier_have_it(multiples, big, small):
    found = rates(several(teacher_lr_mult=multiples), paramwise_cfg=dict(norm_decay_mult=0.0))
    assert any(name.startswith('teachers.big.model.head.') for name in found)
    wanted = {'teachers.big.': 0.05 * big, 'teachers.small.': 0.05 * small}
    for name, rate in found.items():
        assert rate == pytest.approx(next((w for start, w in wanted.items() if name.startswith(start)), 0.05)), name


@pytest.mark.parametrize('multiples, error, words', [
    (0, ValueError, 'teacher_lr_mult: big=0 must be a number greater than 0'),
    ([1.0], ValueError, r'teacher_lr_mult has 1 entries for 2 teachers \(big, small\)'),
    (dict(big=1.0, smal=1.0), ValueError, 'teacher_lr_mult is for big, smal, the teachers are big, small'),
])
def test_wrong_ones_are_refused_at_build(multiples, error, words):
    with pytest.raises(error, match=words):
        several(teacher_lr_mult=multiples)
