# CIFAR-100 image by image, by MMPretrain's own classes: the same augmentation, and any other transform.
_base_ = 'cifar100.py'
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor')

classic = dict(
    num_workers=2,
    persistent_workers=True,
    dataset=dict(type='mmpretrain.CIFAR100'),
    collate_fn=dict(type='default_collate'))
train_dataloader = classic
val_dataloader = classic
test_dataloader = classic
