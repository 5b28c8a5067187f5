"""A student learns from a file what it learns from the teachers that wrote it, and from no other file."""
import copy
import json

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmkd_atsc.checkpoints.atomic_file import UNFINISHED
from mmkd_atsc.models.teacher_cache import MAGIC, CacheHeader, TeacherCache
from mmkd_atsc.models.teacher_recording import keep, record_teachers
from tests.conftest import tiny_classifier
from tests.tiny_cifar import AUGMENT, TinyCIFAR100

LOGITS = dict(logits=dict(type='ModuleOutputs', source='head'))
ANSWERS = dict(preds_S=dict(from_student=True, recorder='logits'), preds_T=dict(from_student=False, recorder='logits'))
KD = dict(type='mmrazor.ConfigurableDistiller', student_recorders=LOGITS, teacher_recorders=LOGITS,
          distill_losses=dict(loss_kd=dict(type='KLDivergence', tau=4)), loss_forward_mappings=dict(loss_kd=ANSWERS))
AEKT = dict(type='mmkd_atsc.AEKTDistiller', num_classes=10, fc_lr_mult=1.0)
PREPROCESSOR = dict(type='mmkd_atsc.BatchedDataPreprocessor', mean=[120., 125., 130.], std=[60., 62., 64.])
TWO = dict(big=tiny_classifier(8, data_preprocessor=dict(mean=[10.] * 3, std=[50.] * 3, to_rgb=True)),
           deep=tiny_classifier(4, depth=14))


def distill(distiller=AEKT, teacher=None, preprocessor=None, **options):
    """An algorithm whose teachers' weights follow from a seed."""
    torch.manual_seed(0)
    teacher = copy.deepcopy(teacher or tiny_classifier(8))
    student = MODELS.build(tiny_classifier(4))
    torch.manual_seed(1)
    model = MODELS.build(dict(
        type='mmkd_atsc.MultiTeacherDistill', architecture=student, teacher=teacher, distiller=distiller,
        allow_random_teacher=True, data_preprocessor={**PREPROCESSOR, **(preprocessor or {})}, **options))
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


@pytest.fixture(autouse=True)
def hub():
    hub = MessageHub.get_current_instance()
    before = dict(hub.runtime_info)
    hub.runtime_info.clear()
    yield hub
    hub.runtime_info.clear()
    hub.runtime_info.update(before)


def train(model, hub, epochs=4):
    """Shuffled epochs of five batches, the last of them of six images; the losses and the student."""
    model.train()
    torch.manual_seed(2)
    wrapper = build_optim_wrapper(model, dict(
        constructor='mmkd_atsc.DistillOptimWrapperConstructor', optimizer=dict(type='SGD', lr=0.002, momentum=0.9)))
    loader = Runner.build_dataloader(dict(
        dataset=TinyCIFAR100(), batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
        collate_fn=dict(type='mmkd_atsc.collate_batch')), seed=0)
    losses = []
    for epoch in range(epochs):
        hub.update_info('epoch', epoch)
        loader.sampler.set_epoch(epoch)
        losses += [model.train_step(data, wrapper)['loss'].item() for data in loader]
    return torch.tensor(losses), model.student.state_dict()


@pytest.mark.parametrize('distiller, teacher, dtype, tolerance', [
    (KD, None, 'float16', 2e-3), (AEKT, TWO, 'float32', 1e-5), (dict(AEKT, teacher='confidence'), TWO, 'float16', 2e-3),
], ids=['KD', 'AEKT, two teachers', 'AEKT, their common answer'])
def test_a_cached_training_is_the_live_one(tmp_path, hub, distiller, teacher, dtype, tolerance):
    """Over 20 steps and two rounds through two recorded epochs."""
    seeded = dict(augment_seed=3, augment_epochs=2)
    path = record(distill(distiller, teacher), tmp_path / 'cache', epochs=2, seed=3, dtype=dtype)
    live, live_student = train(distill(distiller, teacher, seeded), hub)
    model, forwards = distill(distiller, teacher, teacher_cache=path), []
    for network in model.teachers.values():
        network.model.backbone.register_forward_hook(lambda *_: forwards.append(1))
    start = copy.deepcopy(model.student.state_dict())
    cached, student = train(model, hub)
    assert len(cached) == 20 and len(forwards) == len(model.teachers)  # once, to be compared
    torch.testing.assert_close(cached, live, atol=tolerance, rtol=tolerance)
    moved = 0.0
    for key, value in student.items():
        torch.testing.assert_close(value, live_student[key], atol=tolerance, rtol=tolerance, msg=key)
        if 'weight' in key:
            moved = max(moved, (value - start[key]).abs().max().item())
    assert moved > 10 * tolerance
    # It is the augmentation's epoch that counts: with the first one's alone the losses are others.
    other, _ = train(distill(distiller, teacher, dict(augment_seed=3, augment_epochs=1)), hub)
    assert (other - live).abs().max() > 10 * tolerance


@pytest.mark.parametrize('dtype, tolerance', [('float32', 1e-6), ('float16', 2e-3)])
def test_the_largest_logits_and_one_value_for_the_others(tmp_path, dtype, tolerance):
    header = CacheHeader('Data', 40, 10, 4, 0.5, 0, 1, dtype, 3, 2.0, dict(one=dict(fingerprint='', sees=[0] * 6)))
    logits = 3 * torch.randn(40, 10, generator=torch.Generator().manual_seed(0))
    records = np.empty(40, header.record_type())
    keep(records['one'], logits, header)
    path = tmp_path / 'cache'
    path.write_bytes(MAGIC + json.dumps(header._asdict()).encode() + b'\n' + bytes(8 * 40) + records.tobytes())
    batch = type('Batch', (), dict(epoch=0, sample_idx=torch.arange(40).flip(0)))
    read = TeacherCache(path).logits('one', batch).double().flip(0)
    kept = torch.zeros(40, 10, dtype=torch.bool).scatter_(1, logits.topk(3).indices, True)
    torch.testing.assert_close(read[kept], logits[kept].double(), atol=tolerance, rtol=tolerance)
    probabilities, expected = (read / 2).softmax(1), (logits / 2).double().softmax(1)
    torch.testing.assert_close(probabilities[kept], expected[kept], atol=tolerance, rtol=tolerance)
    others, expected_others = (probabilities * ~kept).sum(1), (expected * ~kept).sum(1)
    torch.testing.assert_close(others, expected_others, atol=tolerance, rtol=tolerance)
    assert (read[~kept].view(40, 7) == read[~kept].view(40, 7)[:, :1]).all()
    records['one']['classes'][7, 1] = 10
    path.write_bytes(path.read_bytes()[:-records.nbytes] + records.tobytes())
    with pytest.raises(ValueError, match='one has classes beyond 0 to 9'):
        TeacherCache(path)


def test_scoring_needs_no_file_and_changes_nothing():
    model, plain = distill(teacher_cache='not there'), distill()
    assert model.state_dict().keys() == plain.state_dict().keys()
    data = TinyCIFAR100().__getitems__(range(8))
    with torch.no_grad():
        scores = [[sample.pred_score for sample in network.eval().val_step(data)] for network in (model, plain)]
    torch.testing.assert_close(*(torch.stack(score) for score in scores))
    with pytest.raises(FileNotFoundError, match="teacher_cache='not there': no such file; tools/cache_teacher.py"):
        model.train()


def first_step(model, dataset=None):
    model.train()
    wrapper = build_optim_wrapper(model, dict(optimizer=dict(type='SGD', lr=0.1)))
    return model.train_step((dataset or TinyCIFAR100()).__getitems__(list(range(20, 36))), wrapper)


def retrained(model):
    with torch.no_grad():
        next(model.teachers['teacher'].parameters())[0, 0, 0, 0] += 1e-3
    return model


@pytest.mark.parametrize('make, words', [
    (lambda cache: retrained(distill(teacher_cache=cache)), 'holds the answers of another teacher than that of'),
    (lambda cache: distill(teacher=TWO, teacher_cache=cache), 'holds the answers of teacher, not of big'),
    (lambda cache: distill(KD, tiny_classifier(8, num_classes=7), teacher_cache=cache),
     'holds logits of 10 classes, teacher has 7'),
    (lambda cache: distill(preprocessor=dict(std=[60., 62., 64.5]), teacher_cache=cache), 'with another normalisation'),
    (lambda cache: distill(preprocessor=dict(augment_seed=1), teacher_cache=cache),
     'augment_seed=1, augment_epochs=None; the teachers were recorded with augment_seed=0, augment_epochs=2'),
])
def test_other_teachers_are_refused_before_training(cache, make, words):
    with pytest.raises(ValueError, match=words):
        make(cache).train()


def changed(name, value):
    dataset = TinyCIFAR100()
    getattr(dataset.data_list, name)[30] = value
    return dataset


@pytest.mark.parametrize('make, words', [
    (lambda: TinyCIFAR100(indices=50), r'recorded with 70 images \(TinyCIFAR100\), the data set has 50'),
    (lambda: TinyCIFAR100(indices=[*range(1, 70), 0]), 'recorded with other data .*: image 20 differs'),
    (lambda: changed('images', 0), 'recorded with other data .*: image 30 differs'),
    (lambda: TinyCIFAR100(AUGMENT[1:]), 'recorded with padding=4, flip_prob=0.5, the pipeline .* has padding=0,'),
    (lambda: TinyCIFAR100([AUGMENT[0], dict(AUGMENT[1], prob=0.4)]), 'has padding=4, flip_prob=0.4'),
])
def test_other_data_are_refused_in_the_first_step(cache, make, words):
    model = distill(teacher_cache=cache)
    before = copy.deepcopy(model.student.state_dict())
    with pytest.raises(ValueError, match=words):
        first_step(model, make())
    assert all(torch.equal(value, before[key]) for key, value in model.student.state_dict().items())


def test_a_batch_that_was_not_augmented_by_the_seed_is_refused(cache, batch):
    model = distill(teacher_cache=cache).train()
    with pytest.raises(ValueError, match='teacher_cache: the batch does not say which images it has'):
        model(*batch, mode='loss')


def resnet(**backbone):
    """A network whose options change its answers and not its weights."""
    return dict(
        type='mmpretrain.ImageClassifier', neck=dict(type='mmpretrain.GlobalAveragePooling'),
        backbone=dict(type='mmpretrain.ResNet', depth=50, stem_channels=4, base_channels=4, zero_init_residual=False,
                      **backbone),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=10, in_channels=128))


@pytest.mark.parametrize('options, backbone', [
    (dict(), dict(style='caffe')), (dict(topk=3), dict(norm_cfg=dict(type='BN', eps=3.)))])
def test_another_network_of_the_same_weights_is_refused_in_the_first_step(tmp_path, options, backbone):
    path = record(distill(teacher=resnet()), tmp_path / 'cache', **options)
    first_step(distill(teacher=resnet(), teacher_cache=path))
    model = distill(teacher=resnet(**backbone), teacher_cache=path)
    before = copy.deepcopy(model.student.state_dict())
    with pytest.raises(ValueError, match=f'^{path}: holds other logits than the teacher of this config gives to the '
                                         r'first batch: they differ by \d+% of their spread, .*; record one .*$'):
        first_step(model)
    assert all(torch.equal(value, before[key]) for key, value in model.student.state_dict().items())


def shifted(model, noise, offset=0.):
    """The algorithm with teachers whose logits are moved after the weights were compared."""
    model.train()
    for network in model.teachers.values():
        network.model.head.fc.register_forward_hook(
            lambda _, args, logits: logits + offset + noise * logits.std() * torch.randn(
                logits.shape, generator=torch.Generator().manual_seed(0)))
    return model


@pytest.mark.parametrize('options', [dict(), dict(topk=3)])
def test_rounding_is_no_other_network(tmp_path, options):
    """What TF32 does to a deep network passes, ten times that does not; nor does what is nan."""
    path = record(distill(teacher=TWO), tmp_path / 'cache', **options)
    first_step(shifted(distill(teacher=TWO, teacher_cache=path), 0.005))
    for noise in (0.05, float('nan')):
        with pytest.raises(ValueError, match='holds other logits than the big of'):
            first_step(shifted(distill(teacher=TWO, teacher_cache=path), noise))


def test_the_comparison_is_in_full_precision_under_autocast(cache):
    model, seen = distill(teacher_cache=cache), []
    network = model.teachers['teacher'].model
    network.head.register_forward_hook(lambda *args: seen.append((args[-1].dtype, network.training)))
    statistics, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    with torch.autocast('cpu', torch.bfloat16):
        for _ in range(2):
            first_step(model)
    assert seen == [(torch.float32, False)]  # once, and it leaves no trace:
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, statistics[key]) for key, value in network.state_dict().items())


def test_two_recorders_of_one_file_do_not_mix(tmp_path):
    """The second begins and ends while the first is at work; the last to end gives the whole file."""
    path, alone = tmp_path / 'cache', tmp_path / 'alone'
    record(distill(), alone, epochs=2, seed=0)

    def report(line):
        if line == 'epoch 1 of 2':
            unfinished, = [other.name for other in tmp_path.glob('cache*')]
            assert unfinished.endswith(UNFINISHED)
            record(distill(), path, epochs=2, seed=1)
            assert TeacherCache(path).header.seed == 1

    record_teachers(distill(), TinyCIFAR100(), str(path), epochs=2, seed=0, batch_size=32, report=report)
    assert path.read_bytes() == alone.read_bytes()
    assert sorted(other.name for other in tmp_path.iterdir()) == ['alone', 'cache']


def edited(content, **changes):
    header, data = content[len(MAGIC):].split(b'\n', 1)
    return MAGIC + json.dumps({**json.loads(header), **changes}).encode() + b'\n' + data


@pytest.mark.parametrize('spoil, reason', [
    (lambda c: b'', 'does not begin with mmkd_atsc teacher cache 1'),
    (lambda c: c[:-1], 'bytes, its header says'),
    (lambda c: c[:len(MAGIC) + 40], 'Unterminated|Expecting|delimiter'),
    (lambda c: MAGIC + b'[' * 65_000 + b'\n', 'more than 500 brackets'),
    (lambda c: edited(c, extra=1), "unexpected keyword argument 'extra'"),
    (lambda c: edited(c, samples=10**30), 'bytes, its header says'),
    (lambda c: edited(c, epochs=True), 'epochs=True must be an integer'),
    (lambda c: edited(c, flip_prob=float('nan')), 'flip_prob=nan'),
    (lambda c: edited(c, dtype='object'), "dtype='object' is not one of 'float16', 'float32'"),
    (lambda c: edited(c, teachers=dict(teacher=dict(fingerprint='', sees=['a'] * 6))), "sees='a' must be a number"),
    (lambda c: edited(c, teachers=dict(teacher=dict(fingerprint=''))), 'must have fingerprint and sees'),
])
def test_a_broken_or_hostile_file_is_refused_in_a_line(tmp_path, cache, spoil, reason):
    path = tmp_path / 'cache'
    path.write_bytes(spoil(open(cache, 'rb').read()))
    with pytest.raises(ValueError, match=rf'^{path}: is truncated or no teacher cache \(.*({reason})') as caught:
        TeacherCache(path)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 400


def with_recorder(**recorder):
    return dict(AEKT, teacher_recorders=dict(other=recorder))


@pytest.mark.parametrize('options, words', [
    (dict(distiller=with_recorder(type='mmrazor.ModuleOutputs', source='backbone')),
     "teacher_recorders: other records ModuleOutputs of 'backbone'; a cache holds logits only"),
    (dict(distiller=dict(AEKT, distill_deliveries=dict(aug=dict(
        type='MethodOutputs', max_keep_data=1, method_path='mmpretrain.models.heads.linear_head.LinearClsHead.forward')
    ))), r'distill_deliveries \(aug\) need the teacher to run'),
    (dict(preprocessor=dict(num_classes=10, batch_augments=dict(augments=[
        dict(type='mmpretrain.Mixup', alpha=0.8), dict(type='mmpretrain.CutMix', alpha=1.0)]))),
     r'teacher_cache: batch_augments \(Mixup, CutMix\) mix images'),
    (dict(preprocessor=dict(type='mmpretrain.ClsDataPreprocessor')),
     "augmented in batches: data set type='mmkd_atsc.BatchedCIFAR100' .*not ClsDataPreprocessor"),
])
def test_what_a_cache_cannot_give_is_refused_at_build(options, words):
    with pytest.raises(ValueError, match=words):
        distill(teacher_cache='not there', **options)


def test_adaptive_teachers_cannot_be_cached(teacher_checkpoint):
    student = dict(tiny_classifier(4), neck=dict(type='mmkd_atsc.FeatureProjector', in_channels=8, out_channels=16),
                   head=dict(type='mmkd_atsc.SharedClassifierHead'))
    config = dict(type='mmkd_atsc.AdaptiveTeacherDistill', architecture=student, teacher=tiny_classifier(8),
                  teacher_ckpt=teacher_checkpoint)
    with pytest.raises(ValueError, match='^teacher_cache=.*: AdaptiveTeacherDistill adapts .* cannot be cached$'):
        MODELS.build(dict(config, teacher_cache='cache'))
    assert copy.deepcopy(MODELS.build(config)).adapting


def test_logits_too_large_for_the_file_leave_none(tmp_path):
    model = distill()
    model.teachers['teacher'].model.head.fc.bias.data[3] = 70_000
    with pytest.raises(ValueError, match='gave a logit of 7000.*, which float16 cannot hold'):
        record(model, tmp_path / 'cache')
    assert not list(tmp_path.iterdir())
    record(distill(), tmp_path / 'cache')
    assert [path.name for path in tmp_path.iterdir()] == ['cache']
