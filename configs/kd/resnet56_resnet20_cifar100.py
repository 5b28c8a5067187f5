_base_ = ['../_base_/models/resnet56.py', '../_base_/models/resnet20.py', '../_base_/methods/kd_cifar100.py']
_base_.resnet20.head.loss.loss_weight = 0.1  # the protocol's weights: 0.1 for the labels, 0.9 for the teacher
model = dict(
    architecture=_base_.resnet20,
    teacher=_base_.resnet56,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs/teachers}}/resnet56_cifar100')
