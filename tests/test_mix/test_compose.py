"""What tools/distill.py writes: short, inheriting, loadable from its place, and true to the student's own training."""
import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmkd_atsc.compose import Named, compose, read_inline
from tests.conftest import tiny_classifier

TEACHER = Named(tiny_classifier(8), 'teacher.pth')
STUDENT = """
default_scope = 'mmpretrain'
model = {model!r}
data_preprocessor = dict(num_classes=10, mean=[127.5] * 3, std=[127.5] * 3)
train_dataloader = dict(dataset=dict(type='CIFAR10', pipeline=[dict(type='PackInputs')]))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
train_cfg = dict(by_epoch=True, max_epochs=2)
val_cfg = test_cfg = dict()
"""


@pytest.fixture
def write(tmp_path):
    """Writes configs; `load` brings them back from another working directory."""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def student(write):
    return write('mine/student.py', STUDENT.format(model=tiny_classifier(4)))


def build(config):
    config = copy.deepcopy(config)
    config.model.update(allow_random_teacher=True, teacher_ckpt=None)
    with DefaultScope.overwrite_default_scope(config.default_scope):
        return MODELS.build(dict(config.model, data_preprocessor=config.data_preprocessor))


def distil(write, student, teachers=(TEACHER, ), method='aekt', **options):
    """The composed config, written into a folder of its own and read again."""
    text = compose(student, list(teachers), method, folder=str(write('out/x', '')).rpartition('/')[0], **options)
    return Config.fromfile(write('out/distil.py', text)), text


@pytest.mark.parametrize('method', ['aekt', 'atsc'])
def test_a_local_students_config_is_inherited(write, student, method):
    config, text = distil(write, student, method=method)
    assert "_base_ = ['../mine/student.py']" in text and len(text.splitlines()) <= 25
    assert config.train_cfg == dict(by_epoch=True, max_epochs=2) and config.optim_wrapper.optimizer.lr == 0.1
    model = build(config)
    assert model.student.backbone.conv1.out_channels == 4 and model.teacher.backbone.conv1.out_channels == 8
    if method == 'atsc':
        assert config.model.architecture.neck == dict(
            type='mmkd_atsc.FeatureProjector', in_channels=8, out_channels=16, out_size=8)


@pytest.mark.parametrize('method', ['aekt', 'atsc'])
def test_several_teachers(write, student, method):
    other = tiny_classifier(16)
    teachers = [TEACHER, Named(other, 'b.pth')]
    config, _ = distil(write, student, teachers, method)
    assert dict(config.model.teacher_ckpt) == dict(cifarresnet0='teacher.pth', cifarresnet1='b.pth')
    model = build(config)
    assert list(model.teachers) == ['cifarresnet0', 'cifarresnet1']
    if method == 'atsc':
        assert [projector.out_channels for projector in model.student.neck.projectors.values()] == [16, 32]


def test_the_students_own_training_stays(write):
    """Augmentation, hooks, the metric that is watched, the weights that it starts from."""
    model = dict(tiny_classifier(4), train_cfg=dict(augments=[dict(type='Mixup', alpha=0.8)]))
    student = write('mine/student.py', STUDENT.format(model=model) + """
load_from = 'start.pth'
custom_hooks = [dict(type='EMAHook'), dict(type='EarlyStoppingHook', monitor='accuracy/top1')]
param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='loss'), dict(type='MultiStepLR', milestones=[1])]
default_hooks = dict(checkpoint=dict(type='CheckpointHook', save_best='accuracy/top1'))
""")
    for method, hook in (('aekt', 'DistillWarmupHook'), ('atsc', 'AdaptiveTeacherHook')):
        config, _ = distil(write, student, method=method)
        assert config.model.architecture.train_cfg.augments[0].type == 'Mixup'
        assert [one.type.split('.')[-1] for one in config.custom_hooks] == ['EMAHook', 'EarlyStoppingHook', hook]
        assert config.custom_hooks[1].monitor == 'student/accuracy/top1'
        assert config.param_scheduler[0].monitor == 'student/loss' and 'monitor' not in config.param_scheduler[1]
        assert config.default_hooks.checkpoint == dict(type='CheckpointHook', save_best='student/accuracy/top1')
        assert config.load_from is None
        part = config.model.architecture if method == 'aekt' else config.model.architecture.backbone
        assert part.init_cfg.checkpoint == 'start.pth'


def test_the_student_starts_from_its_checkpoint(write, tmp_path):
    torch.manual_seed(3)
    start = MODELS.build(tiny_classifier(4))
    torch.save(start.state_dict(), tmp_path / 'start.pth')
    student = write('mine/student.py',
                    STUDENT.format(model=tiny_classifier(4)) + f"load_from = '{tmp_path}/start.pth'\n")
    for method in ('aekt', 'atsc'):
        model = build(distil(write, student, method=method)[0])
        model.init_weights()
        torch.testing.assert_close(model.student.backbone.conv1.weight, start.backbone.conv1.weight)


def test_layer_wise_rates_stay_the_students(write):
    student = write('mine/student.py', STUDENT.format(model=tiny_classifier(4)) + """
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1), constructor='LearningRateDecayOptimWrapperConstructor',
                     paramwise_cfg=dict(layer_decay_rate=0.7))
""")
    wrapper = distil(write, student)[0].optim_wrapper
    assert wrapper.constructor == 'mmkd_atsc.DistillOptimWrapperConstructor'
    assert wrapper.paramwise_cfg.layer_decay_rate == 0.7


def test_beside_another_constructor_there_is_no_layer_that_would_learn_too_fast(write):
    student = write('mine/student.py', STUDENT.format(model=tiny_classifier(4)) + """
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1), constructor='MyConstructor')
""")
    config, _ = distil(write, student)
    assert config.optim_wrapper.constructor == 'MyConstructor' and config.model.distiller.with_fc is False


def test_training_by_iterations_gets_no_hook_that_counts_epochs(write):
    student = write('mine/student.py', STUDENT.format(model=tiny_classifier(4)).replace(
        'by_epoch=True, max_epochs=2', 'by_epoch=False, max_iters=2'))
    for method in ('aekt', 'atsc'):
        assert 'custom_hooks' not in distil(write, student, method=method)[0]


def test_a_student_given_as_a_dict_takes_data_and_schedule_from_a_base(write, student):
    other = tiny_classifier(2)
    for method in ('aekt', 'atsc'):
        model = build(distil(write, other, method=method, base=student)[0])
        assert model.student.backbone.conv1.out_channels == 2


def test_a_student_may_be_trained_by_anothers_config(write, student):
    other = write('other/net.py', STUDENT.format(model=tiny_classifier(2)))
    for method in ('aekt', 'atsc'):
        config, text = distil(write, other, method=method, base=student)
        assert "cfg_path='{{ fileDirname }}/../other/net.py'" in text
        assert build(config).student.backbone.conv1.out_channels == 2


@pytest.mark.parametrize('by_path', [False, True])
def test_the_student_of_an_mmrazor_config_is_distilled_anew(write, student, by_path):
    architecture = dict(cfg_path=student, pretrained=False) if by_path else tiny_classifier(4)
    model = dict(_scope_='mmrazor', type='SingleTeacherDistill', architecture=architecture, teacher=tiny_classifier(16),
                 distiller=dict(type='ConfigurableDistiller'))
    mmrazor = write('mine/mmrazor.py', STUDENT.format(model=model))
    for method in ('aekt', 'atsc'):
        model = build(distil(write, mmrazor, method=method)[0])
        assert model.student.backbone.conv1.out_channels == 4 and model.teacher.backbone.conv1.out_channels == 8
        kind = 'GlobalAveragePooling' if method == 'aekt' else 'FeatureProjector'
        assert type(model.student.neck).__name__ == kind


def test_a_teachers_file_is_found_from_anywhere(write, student, monkeypatch, tmp_path):
    teacher = write('teachers/big.py', STUDENT.format(model=tiny_classifier(8)))
    monkeypatch.chdir(tmp_path)
    config, text = distil(write, 'mine/student.py', [Named('teachers/big.py', 'big.pth')])
    assert "cfg_path='{{ fileDirname }}/../teachers/big.py'" in text
    monkeypatch.chdir('/')
    assert build(Config.fromfile(tmp_path / 'out' / 'distil.py')).teacher.backbone.conv1.out_channels == 8
    assert teacher


@pytest.mark.parametrize('pipeline, tau', [([dict(type='PackInputs')], 4.0),
                                           ([dict(type='RandomResizedCrop', scale=224), dict(type='PackInputs')], 1.0)])
def test_settings_are_those_for_the_size_of_the_images(write, pipeline, tau):
    student = write('mine/student.py', STUDENT.format(model=tiny_classifier(4)).replace(
        "[dict(type='PackInputs')]", repr(pipeline)))
    assert distil(write, student)[0].model.distiller.tau == tau
    assert distil(write, student, image_size=48)[0].model.distiller.tau == 4.0


def test_timms_networks_teach_and_learn(write, student, tmp_path):
    timm = pytest.importorskip('timm')
    network = dict(type='mmpretrain.TimmClassifier', model_name='resnet10t', num_classes=10)
    torch.save(timm.create_model('resnet10t', num_classes=10).state_dict(), tmp_path / 'timm.pth')
    mine = write('mine/timm.py', STUDENT.format(model=network))
    for own in (student, mine):
        config, _ = distil(write, own, [Named(network, str(tmp_path / 'timm.pth'))])
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(config.model)
        assert model.first_teacher.fingerprint.any()  # strictly loaded


@pytest.mark.parametrize('change, words', [
    (dict(method='atcs'), "method='atcs' is not one of 'aekt', 'atsc'"),
    (dict(teachers=[]), 'no teacher is given'),
    (dict(student=tiny_classifier(4)), 'given as a dict brings no data'),
    (dict(student='nowhere.py'), 'no such config: nowhere.py'),
    (dict(teachers=[Named(tiny_classifier(8))]), 'cifarresnet: a teacher needs a checkpoint, no model zoo publishes'),
    (dict(teachers=[Named('mmkd_atsc::demo/teacher_digits.py')]), 'teacher_digits: a teacher needs a checkpoint'),
    (dict(teachers=[Named('nowhere.py', 'a.pth')]), 'teacher: no such config: nowhere.py'),
    (dict(teachers=[Named(tiny_classifier(8, num_classes=100), 'a.pth')]),
     r'one number of classes \(num_classes\), not student 10, cifarresnet 100'),
])
def test_what_cannot_be_distilled_is_refused_in_one_line(student, change, words):
    given = dict(dict(student=student, teachers=[TEACHER], method='aekt'), **change)
    with pytest.raises((ValueError, OSError), match=words) as error:
        compose(**given)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('text', ["dict(a=open('x'))", 'dict(**a)', 'dict(a', '[1]', 'dict(a=1).update(b=2)',
                                  'dict([1])'])
def test_an_inline_dict_runs_nothing(text):
    with pytest.raises(ValueError, match='is no dict of plain values'):
        read_inline(text)
