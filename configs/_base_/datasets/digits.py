# Handwritten digits that come with scikit-learn: 400 images train, 1,397 test; nothing to download.
data_preprocessor = dict(
    type='mmpretrain.ClsDataPreprocessor', num_classes=10, mean=[127.5] * 3, std=[127.5] * 3, to_rgb=False)

train_dataloader = dict(
    batch_size=40,
    num_workers=0,
    persistent_workers=False,  # MMPretrain's tools/train.py would set it to True
    dataset=dict(
        type='mmkd_atsc.Digits',
        split='train',
        pipeline=[dict(type='mmpretrain.RandomCrop', crop_size=32, padding=4), dict(type='mmpretrain.PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'))

val_dataloader = dict(
    batch_size=200,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(type='mmkd_atsc.Digits', split='test', pipeline=[dict(type='mmpretrain.PackInputs')]),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'))
val_evaluator = dict(type='mmpretrain.Accuracy', topk=(1,))

test_dataloader = val_dataloader
test_evaluator = val_evaluator
