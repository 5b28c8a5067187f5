# Two teachers, two trainings of one network.
_base_ = [
    '../_base_/models/resnet20.py', '../_base_/models/resnet8.py', '../_base_/methods/atsc_cifar100.py',
    '../_base_/schedules/cifar100_6e.py'
]
model = dict(
    architecture=dict(backbone=_base_.resnet8.backbone),
    teacher=dict(seed0=_base_.resnet20, seed1=_base_.resnet20),
    teacher_ckpt=dict(
        seed0='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/short_resnet20',
        seed1='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/short_resnet20_seed1'),
    teacher_lr_mult=0.1,
    distiller=dict(anchor_min_dims=1))
custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook', start=3)]
param_scheduler = _base_.short_schedule
train_cfg = dict(max_epochs=6)
