# The short protocol's teacher: twice its students' epochs.
_base_ = ['../teachers/resnet20_cifar100.py']
param_scheduler = [
    dict(type='LinearLR', by_epoch=True, start_factor=0.1, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=12, T_max=11, convert_to_iter_based=True)
]
train_cfg = dict(max_epochs=12)
