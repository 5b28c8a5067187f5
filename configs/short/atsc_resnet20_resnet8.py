# The teacher waits for half of the epochs, until the student is near it, and its norm layers are anchored too: in so
# short a run it would else come down to meet the student.
_base_ = [
    '../_base_/models/resnet20.py', '../_base_/models/resnet8.py', '../_base_/methods/atsc_cifar100.py',
    '../_base_/schedules/cifar100_6e.py'
]
model = dict(
    architecture=dict(backbone=_base_.resnet8.backbone, neck=dict(in_channels=64, out_channels=64)),
    teacher=_base_.resnet20,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs}}/short_resnet20/epoch_12.pth',
    distiller=dict(anchor_min_dims=1))
custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook', start=3)]
param_scheduler = _base_.short_schedule
train_cfg = dict(max_epochs=6)
