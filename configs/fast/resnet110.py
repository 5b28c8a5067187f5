# The recipe of the teacher that comes with the package.
_base_ = ['../teachers/resnet110_cifar100.py', '../_base_/schedules/cifar100_30e.py']
train_dataloader, val_dataloader = _base_.protocol.train_dataloader, _base_.protocol.val_dataloader
optim_wrapper = _base_.protocol.optim_wrapper
param_scheduler = [
    _base_.protocol.param_scheduler[0],
    dict(type='CosineAnnealingLR', by_epoch=True, begin=3, end=60, T_max=57, convert_to_iter_based=True)
]
auto_scale_lr = _base_.protocol.auto_scale_lr
train_cfg = dict(max_epochs=60, val_interval=20)
default_hooks = dict(checkpoint=dict(interval=20, max_keep_ckpts=1, save_best=None))
