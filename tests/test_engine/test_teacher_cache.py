"""A student learns from a file what it learns from the teachers that wrote it, and from no other file."""
import copy

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner import Runner
from safetensors.torch import save

from mmkd_atsc.engine.teacher_cache import TeacherCacheHook, draw_epoch, record_teachers, repeat_augmentation
from mmkd_atsc.models.data_preprocessors import BatchedDataPreprocessor
from tests.conftest import tiny_classifier
from tests.test_models.distillation import kd
from tests.test_runtime.stand_in import StandInGraphHook
from tests.test_runtime.test_step_graph import SHARED
from tests.tiny_cifar import AUGMENT, RepeatedAugmentation, TinyCIFAR100

KD = dict(kd(), type='mmrazor.ConfigurableDistiller')
AEKT = dict(type='mmkd_atsc.AEKTDistiller', fc_lr_mult=1.0)
PREPROCESSOR = dict(type='mmkd_atsc.BatchedDataPreprocessor', mean=[120., 125., 130.], std=[60., 62., 64.])
TWO = dict(big=tiny_classifier(8, data_preprocessor=dict(mean=[10.] * 3, std=[50.] * 3, to_rgb=True)),
           deep=tiny_classifier(4, depth=14))


def distill(distiller=AEKT, teacher=None, student=None, kind='MultiTeacherDistill', **preprocessor):
    """An algorithm whose teachers' weights follow from a seed."""
    torch.manual_seed(0)
    student = MODELS.build(student or tiny_classifier(4))
    torch.manual_seed(1)
    model = MODELS.build(dict(
        type=f'mmkd_atsc.{kind}', architecture=student, teacher=copy.deepcopy(teacher or tiny_classifier(8)),
        distiller=distiller, allow_random_teacher=True, data_preprocessor={**PREPROCESSOR, **preprocessor}))
    for network in model.teachers.values():
        network.model.head.fc.weight.data.mul_(30)  # surer than at random
    return model


def record(model, path, **options):
    record_teachers(model, TinyCIFAR100(), str(path), batch_size=32, report=lambda line: None, **options)
    return str(path)


@pytest.fixture(scope='module')
def cache(tmp_path_factory):
    """Of the one teacher that ``distill`` builds."""
    return record(distill(), tmp_path_factory.mktemp('cache') / 'cache', epochs=2)


def train(model, hook, work_dir, epochs=1, dataset=None, workers=0, **options):
    """Shuffled epochs of five batches, the last of them of six images; returns the loss of each step."""
    config = dict(
        model=model, work_dir=str(work_dir), custom_hooks=[hook], default_scope='mmpretrain', randomness=dict(seed=2),
        train_dataloader=dict(
            dataset=dataset or TinyCIFAR100(), batch_size=16, num_workers=workers,
            sampler=dict(type='DefaultSampler', shuffle=True), collate_fn=dict(type='mmkd_atsc.collate_batch')),
        train_cfg=dict(by_epoch=True, max_epochs=epochs), default_hooks=dict(checkpoint=None),
        optim_wrapper=dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor',
                           optimizer=dict(type='SGD', lr=0.002, momentum=0.9)))
    runner = Runner(**{**config, **options})
    runner.train()
    return torch.tensor(runner.message_hub.get_scalar('train/loss').data[0])


@pytest.mark.parametrize('distiller, teacher, workers', [(KD, None, 1), (dict(AEKT, teacher='confidence'), TWO, 0)],
                         ids=['KD, a worker process', 'AEKT, two teachers'])
def test_a_cached_training_is_the_live_one(tmp_path, in_process, distiller, teacher, workers):
    """Over two recorded epochs, one of them again; the step is not captured."""
    path = record(distill(distiller, teacher), tmp_path / 'cache', epochs=2, seed=3)
    expected, model, forwards = distill(distiller, teacher), distill(distiller, teacher), []
    live = train(expected, RepeatedAugmentation(3, 2), tmp_path, epochs=3)
    for network in model.teachers.values():
        network.model.backbone.register_forward_hook(lambda *_: forwards.append(1))
    graph = dict(checkpoint=None, step_graph=dict(type=StandInGraphHook, warmup=2))
    cached = train(model, TeacherCacheHook(path), tmp_path / 'cached', 3, workers=workers, default_hooks=graph)
    assert len(cached) == 15 and len(forwards) == len(model.teachers)  # once, to be compared
    torch.testing.assert_close(cached, live, atol=2e-3, rtol=2e-3)
    students = (list(network.student.state_dict().values()) for network in (model, expected))
    torch.testing.assert_close(*students, atol=2e-3, rtol=2e-3)
    log, = tmp_path.glob('cached/*/*.log')
    for line in ("not captured: the teachers' logits are read from a file", 'the augmentation of 2 of the 3 epochs'):
        assert log.read_text().count(line) == 1
    # The model is as before: its checkpoints, its copies, and what its teachers say.
    assert model.state_dict().keys() == expected.state_dict().keys()
    images = torch.randn(2, 3, 32, 32)
    for name, network in copy.deepcopy(model).teachers.items():
        assert torch.equal(network(images), expected.teachers[name](images))
    # It is the augmentation's epoch that counts: with the first one's alone the losses are others.
    other = train(distill(distiller, teacher), RepeatedAugmentation(3, 1), tmp_path, 3)
    assert (other - live).abs().max() > 0.02


def test_the_augmentation_depends_on_neither_order_nor_batches_nor_processes():
    dataset, preprocessor = TinyCIFAR100(), BatchedDataPreprocessor()

    def seen(batches, seed=5):
        found = {}
        for rows in batches:
            batch = dataset.__getitems__(rows)
            repeat_augmentation(batch, draw_epoch(seed, 1, 70))
            found.update(zip(rows, preprocessor(batch, training=True)['inputs']))
        return torch.stack([found[row] for row in range(70)])

    order = torch.randperm(70).tolist()
    before, everything = torch.get_rng_state(), seen([list(range(70))])
    assert torch.equal(everything, seen([order[i:i + 16] for i in range(0, 70, 16)]))
    assert torch.equal(before, torch.get_rng_state())  # nothing else draws otherwise
    assert (seen([order], seed=6) == everything).flatten(1).all(1).float().mean() < 0.1
    # Pinned: a cache must be read with the numbers that it was written with.
    assert draw_epoch(7, 3, 2)[:, 1].tolist() == [0.45575575865025375, 0.7908492522668272, 0.032679903842391944]


def retrained():
    model = distill()
    next(model.teachers.parameters()).data[0, 0, 0, 0] += 1e-3
    return model


@pytest.mark.parametrize('model, dataset, words', [
    (retrained, TinyCIFAR100, 'weights of teacher: [0-9a-f]{32}, this training has [0-9a-f]{32}'),
    (lambda: distill(teacher=TWO), TinyCIFAR100, 'weights of big: none, this training has'),
    (distill, lambda: TinyCIFAR100(indices=[*range(1, 70), 0]), 'data: 70 images'),
    (distill, lambda: TinyCIFAR100(AUGMENT[1:]), 'augmentation: .*padding=4.*, this training has .*padding=0'),
])
def test_other_teachers_images_or_augmentation_are_refused(cache, tmp_path, in_process, model, dataset, words):
    with pytest.raises(ValueError, match=f'^{cache}: was recorded with other {words}.*; record a file for '):
        train(model(), TeacherCacheHook(cache), tmp_path, dataset=dataset())


def shifted(noise):
    """The algorithm with teachers whose logits are moved."""
    model, generator = distill(), torch.Generator().manual_seed(0)
    model.teachers['teacher'].model.head.fc.register_forward_hook(
        lambda _, args, logits: logits + noise * logits.std() * torch.randn(logits.shape, generator=generator))
    return model


@pytest.mark.parametrize('make', [lambda: distill(std=[70., 62., 64.]), lambda: shifted(0.05),
                                  lambda: shifted(float('nan'))], ids=['normalisation', 'logits', 'nan'])
def test_the_first_batch_tells_another_network_of_the_same_weights(tmp_path, in_process, cache, make):
    assert len(train(shifted(0.005), TeacherCacheHook(cache), tmp_path)) == 5  # what TF32 does to a deep network
    model = make()
    with pytest.raises(ValueError, match=f'^{cache}: holds other logits than the teacher of this config gives to the '
                                         r'first batch: they differ by (\d+|nan)% of their spread; record a file'):
        train(model, TeacherCacheHook(cache), tmp_path)
    assert not any(value for key, value in model.student.named_buffers() if key.endswith('num_batches_tracked'))


@pytest.mark.parametrize('spoil, reason', [
    (lambda content: b'', 'is truncated or no teacher cache'),
    (lambda content: content[:-1], 'is truncated or no teacher cache'),
    (lambda content: save(dict(teacher=torch.zeros(2, 70, 10))), 'is no teacher cache; tools/cache_teacher.py'),
    (None, ''),
])
def test_a_torn_or_foreign_file_is_refused_in_a_line(tmp_path, in_process, cache, spoil, reason):
    path = tmp_path / 'cache'
    if spoil:
        path.write_bytes(spoil(open(cache, 'rb').read()))
    with pytest.raises((ValueError, FileNotFoundError), match=f'{path}.*{reason}'):
        train(distill(), TeacherCacheHook(path), tmp_path)


def test_logits_too_large_for_the_file_leave_the_old_one(tmp_path):
    path, model = tmp_path / 'cache', distill()
    path.write_bytes(b'old')
    model.teachers['teacher'].model.head.fc.bias.data[3] = 70_000
    with pytest.raises(ValueError, match='teacher gave a logit of 7000.*, which float16 cannot hold'):
        record(model, path)
    assert path.read_bytes() == b'old'


DELIVERY = dict(type='MethodOutputs', max_keep_data=1,
                method_path='mmpretrain.models.heads.linear_head.LinearClsHead.forward')


@pytest.mark.parametrize('model, words', [
    (dict(distiller=dict(AEKT, teacher_recorders=dict(other=dict(type='mmrazor.ModuleOutputs', source='backbone')))),
     "teacher_recorders: other is a ModuleOutputsRecorder of 'backbone'; a file holds logits only"),
    (dict(distiller=dict(AEKT, distill_deliveries=dict(aug=DELIVERY))), 'distill_deliveries need the teacher to run'),
    (dict(num_classes=10, batch_augments=dict(augments=[dict(type='mmpretrain.Mixup', alpha=0.8)])),
     'batch_augments mix images anew in each step'),
    (dict(distiller=None, student=SHARED, kind='AdaptiveTeacherDistill'), 'not for AdaptiveTeacherDistill'),
])
def test_what_a_file_cannot_hold_is_refused(tmp_path, model, words):
    with pytest.raises(ValueError, match=words):
        record(distill(**model), tmp_path / 'cache')
