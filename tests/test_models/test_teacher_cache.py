"""A student learns from a file what it learns from the teachers that wrote it, and from no other file."""
import copy
import json
import logging

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.runner import Runner

from mmkd_atsc.checkpoints.atomic_file import UNFINISHED
from mmkd_atsc.models.teacher_cache import MAGIC, CacheHeader, TeacherCache
from mmkd_atsc.models.teacher_recording import keep, record_teachers, whole_file
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


@pytest.mark.parametrize('distiller, teacher', [
    (KD, None), (AEKT, TWO), (dict(AEKT, teacher='confidence'), TWO),
], ids=['KD', 'AEKT, two teachers', 'AEKT, their common answer'])
@pytest.mark.parametrize('dtype, tolerance', [('float32', 1e-5), ('float16', 2e-3)])
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


def test_every_image_of_every_epoch_is_what_the_teachers_say_to_it(tmp_path):
    model = distill(teacher=TWO)
    cache = TeacherCache(record(model, tmp_path / 'cache', epochs=3, seed=9, dtype='float32'))
    rows = torch.randperm(70)[:50].tolist()
    for epoch in (2, 0):
        data = model.data_preprocessor(TinyCIFAR100().__getitems__(rows), training=True, epoch=epoch)
        batch = data['data_samples'][0].recorded_batch
        cache.check_batch(batch)
        for name, teacher in model.teachers.items():
            torch.testing.assert_close(cache.logits(name, batch), teacher(data['inputs']), atol=1e-5, rtol=1e-5)


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


def test_a_cut_cache_trains_and_says_how_large_it_is(tmp_path, hub):
    lines = []
    model = distill()
    record_teachers(model, TinyCIFAR100(), str(tmp_path / 'cache'), epochs=2, topk=2, report=lines.append)
    assert lines[0] == '700 bytes an epoch, 0.0 MB in all' and lines[-1] == 'epoch 2 of 2'  # 70 x (2 x 2 x 2 + 2)
    losses, _ = train(distill(teacher_cache=str(tmp_path / 'cache')), hub, epochs=2)
    assert torch.isfinite(losses).all()


def test_a_copy_of_the_model_maps_the_file_again(cache):
    model = distill(teacher_cache=cache).train()
    twin = copy.deepcopy(model)
    assert twin.cache is not model.cache and isinstance(twin.cache._records.base, (np.memmap, np.ndarray))
    assert twin.cache.header == model.cache.header
    assert copy.copy(model.cache)._records.flags.writeable is False


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
    (lambda cache: distill(preprocessor=dict(to_rgb=True), teacher_cache=cache), 'with another normalisation'),
    (lambda cache: distill(preprocessor=dict(augment_seed=1), teacher_cache=cache),
     'augment_seed=1, augment_epochs=None; the teachers were recorded with augment_seed=0, augment_epochs=2'),
    (lambda cache: distill(preprocessor=dict(augment_seed=0, augment_epochs=5), teacher_cache=cache),
     'augment_seed=0, augment_epochs=5; the teachers were recorded'),
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
    (lambda: changed('labels', 99), 'recorded with other data .*: image 30 differs'),
    (lambda: TinyCIFAR100(AUGMENT[1:]), 'recorded with padding=4, flip_prob=0.5, the pipeline .* has padding=0,'),
    (lambda: TinyCIFAR100([dict(AUGMENT[0], padding=2), *AUGMENT[1:]]), 'has padding=2, flip_prob=0.5'),
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


@pytest.mark.parametrize('options', [dict(dtype='float32'), dict(), dict(topk=3)])
@pytest.mark.parametrize('backbone', [dict(style='caffe'), dict(norm_cfg=dict(type='BN', eps=3.))])
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


def test_logits_far_from_zero_may_be_rounded_as_half_precision_does(tmp_path):
    path = record(shifted(distill(), 0., 3000.), tmp_path / 'cache')
    first_step(shifted(distill(teacher_cache=path), 0., 3000.))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_the_comparison_is_in_full_precision_under_autocast(cache, dtype):
    model, seen = distill(teacher_cache=cache), []
    network = model.teachers['teacher'].model
    network.head.register_forward_hook(lambda *args: seen.append((args[-1].dtype, network.training)))
    statistics, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    with torch.autocast('cpu', dtype):
        for _ in range(2):
            first_step(model)
    assert seen == [(torch.float32, False)]  # once, and it leaves no trace:
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, statistics[key]) for key, value in network.state_dict().items())


@pytest.fixture
def warned(monkeypatch):
    found = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'log',
                        lambda level, text: found.append(text) if level >= logging.WARNING else None)
    return found


@pytest.mark.parametrize('topk, tau, warns', [(3, 2.0, True), (3, 4, False), (None, 2.0, False)])
def test_a_loss_of_another_temperature_is_warned_of_once(tmp_path, warned, topk, tau, warns):
    path = record(distill(), tmp_path / 'cache', topk=topk)
    loss = dict(KD, distill_losses=dict(loss_kd=dict(type='KLDivergence', tau=tau)))
    model = distill(loss, teacher_cache=path)
    first_step(model)
    first_step(model)
    assert warned == [f'{path}: its 3 logits of an image give exact probabilities at tau=4.0, loss_kd has tau=2.0; '
                      'tools/cache_teacher.py --tau 2.0 makes it exact'] * warns


@pytest.mark.parametrize('epochs, max_epochs, warns', [(1, 240, True), (2, 2, False), (1, None, False)])
def test_fewer_augmentations_than_epochs_are_warned_of_once(tmp_path, hub, warned, epochs, max_epochs, warns):
    path = record(distill(), tmp_path / 'cache', epochs=epochs)
    model = distill(teacher_cache=path).train()  # a hook may do so before the loop says how many epochs there are
    if max_epochs:
        hub.update_info('max_epochs', max_epochs)
    first_step(model)
    first_step(model)
    assert warned == [f'{path}: has the augmentation of 1 of the 240 epochs, and repeats it; tools/cache_teacher.py '
                      '--epochs N records more'] * warns


def test_images_that_are_not_augmented_need_one_epoch(tmp_path, hub, warned):
    plain = TinyCIFAR100(AUGMENT[2:])
    record_teachers(distill(), plain, str(tmp_path / 'cache'), report=lambda line: None)
    hub.update_info('max_epochs', 240)
    first_step(distill(teacher_cache=str(tmp_path / 'cache')), plain)
    assert not warned


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


def test_two_files_of_one_name_are_written_aside(tmp_path):
    with whole_file(tmp_path / 'cache') as one, whole_file(tmp_path / 'cache') as other:
        assert one.name != other.name
        one.write(b'one')
        other.write(b'other')
    assert (tmp_path / 'cache').read_bytes() == b'one' and len(list(tmp_path.iterdir())) == 1


def edited(content, **changes):
    header, data = content[len(MAGIC):].split(b'\n', 1)
    return MAGIC + json.dumps({**json.loads(header), **changes}).encode() + b'\n' + data


@pytest.mark.parametrize('spoil, reason', [
    (lambda c: b'', 'does not begin with mmkd_atsc teacher cache 1'),
    (lambda c: b'PK\x03\x04' + c, 'does not begin with'),
    (lambda c: c[:-1], 'bytes, its header says'),
    (lambda c: c + b'0', 'bytes, its header says'),
    (lambda c: c[:len(MAGIC) + 40], 'Unterminated|Expecting|delimiter'),
    (lambda c: MAGIC + b'[' * 65_000 + b'\n', 'more than 500 brackets'),
    (lambda c: MAGIC + b'[1]\n', 'mapping'),
    (lambda c: MAGIC + b'\xff\xfe{}\n', 'utf|decode'),
    (lambda c: edited(c, extra=1), "unexpected keyword argument 'extra'"),
    (lambda c: edited(c, samples=-1), 'samples=-1 must be an integer at least 1'),
    (lambda c: edited(c, samples=10**30), 'bytes, its header says'),
    (lambda c: edited(c, classes=10**9), 'classes=1000000000 must be'),
    (lambda c: edited(c, epochs=True), 'epochs=True must be an integer'),
    (lambda c: edited(c, epochs=3), 'bytes, its header says'),
    (lambda c: edited(c, flip_prob=float('nan')), 'flip_prob=nan'),
    (lambda c: edited(c, dtype='object'), "dtype='object' is not one of 'float16', 'float32'"),
    (lambda c: edited(c, topk=10), 'topk=10 must be'),
    (lambda c: edited(c, teachers=[]), r'teachers=\[\] must be a dict'),
    (lambda c: edited(c, teachers=dict(teacher=dict(fingerprint='', sees=['a'] * 6))), "sees='a' must be a number"),
    (lambda c: edited(c, teachers=dict(teacher=dict(fingerprint='', sees=[1]))), 'must be six numbers'),
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
    (dict(distiller=with_recorder(type='mmrazor.ModuleInputs', source='head')), "other records ModuleInputs of 'head'"),
    (dict(distiller=with_recorder(type='mmrazor.Parameter', source='head.fc.weight')), 'other records Parameter of'),
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


def test_data_that_do_not_come_in_batches_are_not_recorded(tmp_path):
    with pytest.raises(ValueError, match="training data are a list; .*type='mmkd_atsc.BatchedCIFAR100'"):
        record_teachers(distill(), [], str(tmp_path / 'cache'))
