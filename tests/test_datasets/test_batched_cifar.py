"""The batched data sets hold what MMPretrain's read, and go through every data loader that MMEngine can build."""
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner import Runner
from mmpretrain.datasets import CIFAR10, CIFAR100

from mmkd_atsc.datasets import BatchedCIFAR10, BatchedCIFAR100, collate_batch
from tests.conftest import ROOT, needs_cifar100
from tests.faults.trainings import write_cifar

BASES = ROOT / 'configs' / '_base_' / 'datasets'
TRAIN, TEST = 42, 20
PACK = [dict(type='mmpretrain.PackInputs')]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A folder with both data sets in their files' format, a few random images in each file."""
    for kind, labels in ((CIFAR10, 'labels'), (CIFAR100, 'fine_labels')):
        write_cifar(tmp_path, kind, labels, TRAIN, TEST)
        for name in ('train_list', 'test_list'):  # no checksums: these are not the real ones
            monkeypatch.setattr(kind, name, [[file, None] for file, _ in getattr(kind, name)])
    init_default_scope('mmpretrain')
    return str(tmp_path)


def loader(dataset, **options):
    config = dict(dataset=dataset, batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
                  collate_fn=dict(type='mmkd_atsc.collate_batch'))
    return Runner.build_dataloader({**config, **options}, seed=0)


def pixels_and_labels(batches):
    """The inputs of a network and the labels, without normalisation and without augmentation."""
    preprocessor = MODELS.build(dict(type='mmkd_atsc.BatchedDataPreprocessor'))
    data = [preprocessor(batch) for batch in batches]
    return (torch.cat([batch['inputs'] for batch in data]),
            [sample.gt_label.item() for batch in data for sample in batch['data_samples']])


@pytest.mark.parametrize('ours, theirs', [(BatchedCIFAR10, CIFAR10), (BatchedCIFAR100, CIFAR100)])
@pytest.mark.parametrize('split', ['train', 'test'])
def test_images_labels_and_classes_are_mmpretrains(root, ours, theirs, split):
    ours, theirs = (kind(root, split, pipeline=PACK) for kind in (ours, theirs))
    batch = ours.__getitems__(range(len(theirs)))
    assert torch.equal(batch['inputs'], torch.stack([sample['inputs'] for sample in theirs]))
    assert batch['labels'].tolist() == theirs.get_gt_labels().tolist() == ours.get_gt_labels().tolist()
    assert batch['inputs'].dtype == torch.uint8 and ours.metainfo == theirs.metainfo and len(ours) == len(theirs)
    assert all(torch.equal(ours[i]['inputs'], theirs[i]['inputs']) for i in (0, 7, -1))  # sample by sample
    assert ours[3]['data_samples'].sample_idx == 3 and ours.get_cat_ids(5) == theirs.get_cat_ids(5)


@pytest.mark.parametrize('indices', [-5, [7, 0, -1, 7], range(2, 8)])
def test_indices_choose_what_they_choose_in_mmpretrains(root, indices):
    ours, theirs = (kind(root, indices=indices, pipeline=PACK) for kind in (BatchedCIFAR100, CIFAR100))
    assert len(ours) == len(theirs) and ours.get_gt_labels().tolist() == theirs.get_gt_labels().tolist()
    for subset in (ours, BatchedCIFAR100(root, pipeline=PACK).get_subset(indices)):
        images = subset.__getitems__(list(range(len(theirs))))['inputs']
        assert torch.equal(images, torch.stack([sample['inputs'] for sample in theirs]))


@pytest.mark.parametrize('options, batches', [
    (dict(drop_last=True), [16, 16]), (dict(num_workers=1, persistent_workers=True), [16, 16, 10]),
])
def test_a_data_loader_gives_every_image_once_in_order(root, options, batches):
    dataset = BatchedCIFAR100(root, pipeline=PACK)
    batch_list = list(loader(dict(type='mmkd_atsc.BatchedCIFAR100', data_root=root, pipeline=PACK), **options))
    assert [len(batch['labels']) for batch in batch_list] == batches
    images, labels = pixels_and_labels(batch_list)
    expected = dataset.__getitems__(range(sum(batches)))
    assert torch.equal(images, expected['inputs'].float()) and labels == expected['labels'].tolist()


def test_a_wrong_collate_function_or_preprocessor_is_refused(root):
    dataset = dict(type='mmkd_atsc.BatchedCIFAR100', data_root=root)
    words = r"collate_fn=dict\(type='mmkd_atsc.collate_batch'\).*type='mmkd_atsc.BatchedDataPreprocessor'"
    for wrong in ('default_collate', 'pseudo_collate'):
        with pytest.raises(ValueError, match=words):
            next(iter(loader(dataset, collate_fn=dict(type=wrong))))
    batch = next(iter(loader(dataset)))
    with pytest.raises(ValueError, match=words):
        MODELS.build(dict(type='mmpretrain.ClsDataPreprocessor'))(batch, training=True)
    assert collate_batch(batch) is batch


@needs_cifar100
def test_the_real_images_are_those_that_the_config_normalises_by():
    config = Config.fromfile(ROOT / 'configs' / 'teachers' / 'resnet8_cifar100.py')
    for part, count in (('train', 500), ('val', 100)):
        data = DATASETS.build(dict(config[f'{part}_dataloader'].dataset, pipeline=[])).data_list
        assert data.images.shape == (100 * count, 3, 32, 32)
        assert data.labels.bincount().tolist() == [count] * 100
        if part == 'train':
            pixels = data.images.transpose(0, 1).flatten(1).float()
            assert abs(pixels.mean(1).numpy() - config.data_preprocessor.mean).max() < 0.5
            assert abs(pixels.std(1).numpy() - config.data_preprocessor.std).max() < 0.5
