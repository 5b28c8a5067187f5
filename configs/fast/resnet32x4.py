# The recipe of the teacher that comes with the package.
_base_ = ['../teachers/resnet32x4_cifar100.py', '../_base_/schedules/cifar100_30e.py']
train_dataloader, val_dataloader = _base_.protocol.train_dataloader, _base_.protocol.val_dataloader
optim_wrapper, auto_scale_lr = _base_.protocol.optim_wrapper, _base_.protocol.auto_scale_lr
param_scheduler, train_cfg = _base_.protocol.teacher.param_scheduler, _base_.protocol.teacher.train_cfg
default_hooks = _base_.protocol.teacher.default_hooks
