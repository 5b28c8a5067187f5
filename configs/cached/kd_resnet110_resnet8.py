_base_ = [
    '../_base_/models/resnet110.py', '../_base_/models/resnet8.py', '../_base_/methods/kd_cifar100.py',
    '../_base_/schedules/cifar100_24e.py'
]
_base_.resnet8.head.loss.loss_weight = 0.1  # the literature's weights: 0.1 for the labels, 0.9 for the teacher
model = dict(
    architecture=_base_.resnet8,
    teacher=_base_.resnet110,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet110_cifar100',
    teacher_cache='{{$MMKD_CACHES:work_dirs}}/resnet110_cifar100/teacher.cache')
param_scheduler, train_cfg = _base_.cached_schedule, _base_.cached_epochs
