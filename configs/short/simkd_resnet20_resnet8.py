# SimKD is ATSC with a teacher that does not adapt.
_base_ = [
    '../_base_/models/resnet20.py', '../_base_/models/resnet8.py', '../_base_/methods/atsc_cifar100.py',
    '../_base_/schedules/cifar100_6e.py'
]
model = dict(
    adaptive=False,
    architecture=dict(backbone=_base_.resnet8.backbone),
    teacher=_base_.resnet20,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/short_resnet20',
    distiller=dict(anchor_min_dims=1))
custom_hooks = []
val_cfg = dict(teachers=False)
param_scheduler = _base_.short_schedule
train_cfg = dict(max_epochs=6)
