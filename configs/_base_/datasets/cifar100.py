# CIFAR-100 by the protocol of the distillation literature: zero-pad 4, random crop, flip; batch 64 in all.
# The pipelines run on whole batches, on the model's device; MMPretrain's own, image by image in workers, is one line
# away: _base_/datasets/cifar100_classic.py in place of this file, or with any config that has inherited this one
# --cfg-options train_dataloader.dataset.type=mmpretrain.CIFAR100 train_dataloader.num_workers=2
# MMKD_DATA_ROOT names the folder that holds (or will hold) cifar-100-python.
data_root = '{{$MMKD_DATA_ROOT:data/cifar100}}'

data_preprocessor = dict(
    type='mmkd_atsc.BatchedDataPreprocessor',
    num_classes=100,
    mean=[129.3105, 124.1085, 112.4040],  # 255 * (0.5071, 0.4867, 0.4408)
    std=[68.2125, 65.4075, 70.4055],  # 255 * (0.2675, 0.2565, 0.2761)
    to_rgb=False)

train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    persistent_workers=False,  # MMPretrain's tools/train.py would set it to True
    dataset=dict(
        type='mmkd_atsc.BatchedCIFAR100',
        data_root=data_root,
        split='train',
        pipeline=[
            dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4),
            dict(type='mmpretrain.RandomFlip', prob=0.5, direction='horizontal'),
            dict(type='mmpretrain.PackInputs'),
        ]),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='mmkd_atsc.collate_batch'))

val_dataloader = dict(
    batch_size=256,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        type='mmkd_atsc.BatchedCIFAR100',
        data_root=data_root,
        split='test',
        pipeline=[dict(type='mmpretrain.PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='mmkd_atsc.collate_batch'))
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
