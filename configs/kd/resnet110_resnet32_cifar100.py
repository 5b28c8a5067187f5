_base_ = ['../_base_/models/resnet110.py', '../_base_/models/resnet32.py', '../_base_/methods/kd_cifar100.py']
_base_.resnet32.head.loss.loss_weight = 0.1  # the protocol's weights: 0.1 for the labels, 0.9 for the teacher
model = dict(
    architecture=_base_.resnet32,
    teacher=_base_.resnet110,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet110_cifar100')
