_base_ = [
    '../_base_/models/resnet20.py', '../_base_/models/resnet8.py', '../_base_/methods/kd_cifar100.py',
    '../_base_/schedules/cifar100_6e.py'
]
_base_.resnet8.head.loss.loss_weight = 0.1  # the protocol's weights: 0.1 for the labels, 0.9 for the teacher
model = dict(architecture=_base_.resnet8, teacher=_base_.resnet20,
             teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/short_resnet20')
param_scheduler = _base_.short_schedule
train_cfg = dict(max_epochs=6)
