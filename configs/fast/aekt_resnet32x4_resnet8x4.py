_base_ = ['../aekt/resnet32x4_resnet8x4_cifar100.py', '../_base_/schedules/cifar100_30e.py']
train_dataloader, val_dataloader = _base_.protocol.train_dataloader, _base_.protocol.val_dataloader
optim_wrapper, param_scheduler = _base_.protocol.optim_wrapper, _base_.protocol.param_scheduler
train_cfg, auto_scale_lr = _base_.protocol.train_cfg, _base_.protocol.auto_scale_lr
default_hooks = _base_.protocol.default_hooks
custom_hooks = _base_.protocol.distill_warmup
