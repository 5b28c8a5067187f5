"""With an augment_seed an image's augmentation follows from seed, epoch and place alone."""
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.logging import MessageHub

from mmkd_atsc.models.data_preprocessors import BatchedDataPreprocessor
from mmkd_atsc.models.data_preprocessors import recorded_batch as module
from mmkd_atsc.models.data_preprocessors.recorded_batch import checksums, draw_epoch
from tests.tiny_cifar import TinyCIFAR100


@pytest.fixture
def hub():
    """The message hub of the training that runs, as MMEngine's hook keeps it."""
    hub = MessageHub.get_current_instance()
    before = dict(hub.runtime_info)
    hub.update_info('epoch', 0)
    yield hub
    hub.runtime_info.clear()
    hub.runtime_info.update(before)


def seen(preprocessor, batches, epoch=None):
    """Each image of the data set after its augmentation, from some batches of indices."""
    dataset, found = TinyCIFAR100(), {}
    for rows in batches:
        images = preprocessor(dataset.__getitems__(rows), training=True, epoch=epoch)['inputs']
        found.update(zip(rows, images))
    return torch.stack([found[row] for row in range(len(dataset))])


def test_it_depends_on_neither_order_nor_batches_nor_processes():
    preprocessor = BatchedDataPreprocessor(augment_seed=5)
    everything = seen(preprocessor, [list(range(70))])
    ranks = [DefaultSampler(range(70), seed=3) for _ in range(3)]
    for rank, sampler in enumerate(ranks):
        sampler.rank, sampler.world_size = rank, 3
    order = [index for sampler in ranks for index in list(sampler)[:24]]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    again = seen(BatchedDataPreprocessor(augment_seed=5), [order[i:i + 16] for i in range(0, 72, 16)])
    assert sorted(set(order)) == list(range(70)) and torch.equal(everything, again)
    assert torch.equal(before, torch.get_rng_state())  # nothing else draws otherwise
    for other in (BatchedDataPreprocessor(augment_seed=6), BatchedDataPreprocessor()):
        assert (seen(other, [order]) == everything).flatten(1).all(1).float().mean() < 0.1


def test_epochs_differ_and_come_again(hub):
    preprocessor, dataset = BatchedDataPreprocessor(augment_seed=0, augment_epochs=2), TinyCIFAR100()
    epochs = []
    for epoch in range(4):
        hub.update_info('epoch', epoch)
        data = preprocessor(dataset.__getitems__(range(70)), training=True)
        assert data['data_samples'][0].recorded_batch.epoch == epoch % 2
        epochs.append(data['inputs'])
    assert torch.equal(epochs[0], epochs[2]) and torch.equal(epochs[1], epochs[3])
    assert (epochs[0] == epochs[1]).flatten(1).all(1).float().mean() < 0.1
    assert torch.equal(epochs[1], preprocessor(dataset.__getitems__(range(70)), training=True, epoch=1)['inputs'])


def test_draws_are_uniform_and_pinned():
    """A cache must be read with the numbers that it was written with."""
    draws = draw_epoch(0, 0, 60_000)
    assert draws.shape == (3, 60_000) and 0 <= draws.min() and draws.max() < 1
    counts = torch.histc((9 * draws).flatten(), bins=9, min=0, max=9)
    assert ((counts - 20_000).abs() < 700).all()  # five deviations
    assert draw_epoch(7, 3, 2)[:, 1].tolist() == [0.45575575865025375, 0.7908492522668272, 0.032679903842391944]
    assert torch.corrcoef(draws).sub(torch.eye(3)).abs().max() < 0.02


def test_a_checksum_sees_any_byte_and_the_label():
    images = torch.randint(256, (200, 3, 32, 32), dtype=torch.uint8)
    labels = torch.arange(200) % 100
    before = checksums(images, labels)
    assert before.dtype == torch.int64 and len(before.unique()) == 200
    changed, index = images.clone(), torch.arange(200)
    changed.flatten(1)[index, index * 15] ^= 1  # one bit of each
    assert (checksums(changed, labels) != before).all() and (checksums(images, labels + 1) != before).all()
    assert torch.equal(checksums(images[[7, 3]], labels[[7, 3]]), before[[7, 3]])
    small = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4)
    assert checksums(small, torch.tensor([3])).tolist() == [5911767324815796837]


@pytest.mark.parametrize('options, words', [
    (dict(augment_seed=-1), 'augment_seed=-1 must be an integer at least 0'),
    (dict(augment_seed=0, augment_epochs=0), 'augment_epochs=0 must be an integer at least 1'),
    (dict(augment_epochs=3), 'augment_epochs=3 needs an augment_seed'),
])
def test_wrong_options_are_refused(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        BatchedDataPreprocessor(**options)


def test_a_training_that_counts_iterations_is_refused(hub, monkeypatch):
    preprocessor, batch = BatchedDataPreprocessor(augment_seed=0), TinyCIFAR100().__getitems__(range(16))
    hub.update_info('max_epochs', 1)
    hub.update_info('max_iters', 5)  # one epoch of 70 images
    preprocessor(batch, training=True)
    hub.update_info('max_iters', 6)
    with pytest.raises(ValueError, match='augment_seed counts epochs; .*by_epoch=False'):
        preprocessor(batch, training=True)
    monkeypatch.setattr(module, 'get_world_size', lambda: 2)
    hub.update_info('max_iters', 3)
    preprocessor(batch, training=True)
