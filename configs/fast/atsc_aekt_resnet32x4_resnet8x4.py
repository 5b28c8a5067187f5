# ATSC and AEKT at once, with the values that each has alone.
_base_ = [
    '../_base_/models/resnet32x4.py', '../_base_/models/resnet8x4.py', '../_base_/methods/atsc_aekt_cifar100.py',
    '../_base_/schedules/cifar100_30e.py'
]
model = dict(
    architecture=dict(backbone=_base_.resnet8x4.backbone),
    teacher=_base_.resnet32x4,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet32x4_cifar100',
    teacher_lr_mult=0.1,
    distiller=dict(anchor_min_dims=1))
custom_hooks = [
    dict(type='mmkd_atsc.AdaptiveTeacherHook', start=0, stop=None),
    dict(type='mmkd_atsc.DistillWarmupHook', epochs=3, losses=['loss_aekt'])
]
train_dataloader, val_dataloader = _base_.protocol.train_dataloader, _base_.protocol.val_dataloader
optim_wrapper, param_scheduler = _base_.protocol.optim_wrapper, _base_.protocol.param_scheduler
train_cfg, auto_scale_lr = _base_.protocol.train_cfg, _base_.protocol.auto_scale_lr
default_hooks = _base_.protocol.default_hooks
