"""What MMRazor's distillers and hooks may and may not do in our algorithm."""
import pytest
from mmengine.registry import MODELS

from tests.conftest import tiny_classifier
from tests.test_models.distillation import kd

KD = dict(kd(), type='mmrazor.ConfigurableDistiller')


def distill(checkpoint, **options):
    model = dict(type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), teacher=tiny_classifier(8),
                 teacher_ckpt=checkpoint, distiller=KD)
    return MODELS.build({**model, **options})


def test_mmrazors_stop_hook_stops_distillation(teacher_checkpoint, batch):
    model = distill(teacher_checkpoint)
    model.distillation_stopped = True
    assert set(model(*batch, mode='loss')) == {'student.loss'}


def test_a_distiller_for_one_teacher_refuses_two(teacher_checkpoint):
    with pytest.raises(ValueError, match=r'ConfigurableDistiller records one teacher, 2 are given'):
        distill([teacher_checkpoint] * 2, teacher=[tiny_classifier(8)] * 2)


def test_an_init_cfg_does_not_reach_the_teacher(teacher_checkpoint):
    with pytest.raises(ValueError, match="init_cfg=.*would overwrite the teachers' weights; put it into the student"):
        distill(teacher_checkpoint, init_cfg=dict(type='Kaiming', layer='Conv2d'))


@pytest.mark.parametrize('side, recorder, words', [
    ('student', dict(type='ModuleOutputs', source='backbone.layr3'), "did you mean 'backbone.layer3'"),
    ('teacher', dict(type='ModuleInputs', source='nothing_like_it'), 'it has .*backbone, neck, head'),
    ('teacher', dict(type='Parameter', source='head.fc.weigth'), "did you mean 'head.fc.weight'"),
])
def test_a_recorder_of_what_is_not_there_names_what_is(teacher_checkpoint, side, recorder, words):
    recorders = {'logits': dict(type='ModuleOutputs', source='head'), 'other': recorder}
    with pytest.raises(ValueError, match=f'^{side}_recorders: other has source=.*{words}'):
        distill(teacher_checkpoint, distiller=dict(KD, **{f'{side}_recorders': recorders}))
