# ATSC and AEKT at once, with the values that each has alone.
_base_ = [
    '../_base_/models/resnet20.py', '../_base_/models/resnet8.py', '../_base_/methods/atsc_aekt_cifar100.py',
    '../_base_/schedules/cifar100_6e.py'
]
model = dict(
    architecture=dict(backbone=_base_.resnet8.backbone),
    teacher=_base_.resnet20,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/short_resnet20',
    teacher_lr_mult=0.1,
    distiller=dict(anchor_min_dims=1, distill_losses=dict(loss_aekt=dict(beta=2.0))))
custom_hooks = [
    dict(type='mmkd_atsc.AdaptiveTeacherHook', start=3),
    dict(type='mmkd_atsc.DistillWarmupHook', epochs=1, losses=['loss_aekt'])
]
param_scheduler = _base_.short_schedule
train_cfg = dict(max_epochs=6)
