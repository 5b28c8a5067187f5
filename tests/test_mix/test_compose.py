"""What tools/distill.py writes: short, inheriting, loadable from its place, and true to the student's own training."""
import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mmkd_atsc.compose import Named, compose, read_inline
from mmkd_atsc.compose.given import teacher_names
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
    assert dict(config.model.teacher_ckpt) == dict(cifarresnet_0='teacher.pth', cifarresnet_1='b.pth')
    model = build(config)
    assert list(model.teachers) == ['cifarresnet_0', 'cifarresnet_1']
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
    for loop in ('by_epoch=False', "type='IterBasedTrainLoop'", "type='mmengine.IterBasedTrainLoop'"):
        student = write('mine/student.py', STUDENT.format(model=tiny_classifier(4)).replace(
            'by_epoch=True, max_epochs=2', f'{loop}, max_iters=2'))
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


@pytest.mark.parametrize('kind', ['VGG', 'LeNet5'])
def test_networks_that_classify_in_the_backbone_teach_and_learn_by_logits(write, kind, batch):
    backbone = dict(VGG=dict(type='VGG', depth=11, num_classes=10), LeNet5=dict(type='LeNet5', num_classes=10))[kind]
    network = dict(type='mmpretrain.ImageClassifier', backbone=backbone, head=dict(type='ClsHead'))
    student = write('mine/student.py', STUDENT.format(model=network))
    config, _ = distil(write, student, [Named(network, 'a.pth')])
    assert config.model.distiller.num_classes == 10
    images = torch.randn(4, 1, 32, 32) if kind == 'LeNet5' else torch.randn(4, 3, 224, 224)
    losses = build(config)(images, batch[1], mode='loss')
    assert losses['distill.loss_aekt'] > 0 and losses['student.loss'] > 0


def test_images_that_are_not_square(write):
    """A transform of MMCV takes (width, height), a crop of MMPretrain (height, width)."""
    for step in (dict(type='Resize', scale=(64, 32)), dict(type='RandomResizedCrop', scale=(32, 64)),
                 dict(type='RandomCrop', crop_size=(32, 64)), dict(type='mmcv.CenterCrop', crop_size=(64, 32))):
        student = write('mine/student.py', STUDENT.format(model=tiny_classifier(4)).replace(
            "[dict(type='PackInputs')]", repr([step, dict(type='PackInputs')])))
        config, text = distil(write, student, method='atsc')
        assert 'an image of 32x64' in text and config.model.architecture.neck.out_size == (8, 16)


def test_teachers_never_share_a_name():
    for files, names in ((['a/net.py', 'b/net.py', 'net_0.py'], ['net_1', 'net_2', 'net_0']),
                         (['a/net.py', 'b/net.py', 'net0.py'], ['net_0', 'net_1', 'net0']),
                         (['r50_8xb32_in1k.py', 'r50_8xb256-rsb_in1k.py'], ['r50_0', 'r50_1'])):
        assert teacher_names([Named(file) for file in files]) == names


def test_a_distillation_is_distilled_anew_without_its_methods_hooks(write):
    inherited = """
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=3), dict(type='mmrazor.StopDistillHook', stop_epoch=1),
                dict(type='EarlyStoppingHook', monitor='student/accuracy/top1')]
param_scheduler = dict(type='ReduceOnPlateauLR', monitor='accuracy/top1')
"""
    model = dict(type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), teacher=tiny_classifier(16),
                 distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=10))
    other = write('mine/aekt.py', STUDENT.format(model=model) + inherited)
    for method, hook in (('aekt', dict(type='mmkd_atsc.DistillWarmupHook', epochs=1)),
                         ('atsc', dict(type='mmkd_atsc.AdaptiveTeacherHook'))):
        config, _ = distil(write, other, method=method)
        assert config.custom_hooks == [dict(type='EarlyStoppingHook', monitor='student/accuracy/top1'), hook]
        assert config.param_scheduler[0].monitor == 'student/accuracy/top1'
    by_iterations = STUDENT.format(model=model).replace('by_epoch=True, max_epochs', 'by_epoch=False, max_iters')
    other = write('mine/aekt.py', by_iterations + "custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=3)]")
    assert distil(write, other)[0].custom_hooks == []


@pytest.mark.parametrize('head, words', [
    ('SharedClassifierHead', r'aekt needs a student with a head of its own, no SharedClassifierHead: export its '
     r'student first \(tools/export_student.py\), and give DIR/student.py, with --base'),
    ('MultiClassifierHead', 'aekt needs a student with a head of its own, no MultiClassifierHead$')])
def test_a_student_without_a_head_of_its_own_learns_by_features_only(write, student, head, words):
    architecture = dict(tiny_classifier(4), head=dict(type=f'mmkd_atsc.{head}'))
    model = dict(type='mmkd_atsc.AdaptiveTeacherDistill', architecture=architecture, teacher=tiny_classifier(16))
    atsc = write('mine/atsc.py', STUDENT.format(model=model))
    with pytest.raises(ValueError, match=words):
        distil(write, atsc)
    assert type(build(distil(write, atsc, method='atsc')[0]).student.head).__name__ == 'SharedClassifierHead'
    for given in (dict(student=atsc, base=student), dict(student=student, teachers=[Named(atsc, 'a.pth')])):
        with pytest.raises(ValueError, match='atsc: is a distillation, a classifier is needed: export its student'):
            distil(write, **given)


def test_an_exported_student_learns_by_its_own_copy_of_a_classifier(write, student, batch):
    head = dict(type='mmkd_atsc.SharedClassifierHead', classifier=dict(
        neck=tiny_classifier(8)['neck'], head=tiny_classifier(8)['head']))
    exported = dict(tiny_classifier(4), neck=dict(type='mmkd_atsc.FeatureProjector', in_channels=8, out_channels=16),
                    head=head)
    for given in (dict(student=exported, base=student),
                  dict(student=write('mine/exported.py', STUDENT.format(model=exported)))):
        losses = build(distil(write, **given)[0])(*batch, mode='loss')
        assert losses['distill.loss_aekt'] > 0 and losses['student.loss'] > 0


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
    (dict(image_size=-5), 'image_size=-5 must be an integer at least 1'),
    (dict(image_size=0), 'image_size=0 must be an integer at least 1'),
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
