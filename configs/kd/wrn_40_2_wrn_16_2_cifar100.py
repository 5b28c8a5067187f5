_base_ = ['../_base_/models/wrn_40_2.py', '../_base_/models/wrn_16_2.py', '../_base_/methods/kd_cifar100.py']
_base_.wrn_16_2.head.loss.loss_weight = 0.1  # the protocol's weights: 0.1 for the labels, 0.9 for the teacher
model = dict(
    architecture=_base_.wrn_16_2,
    teacher=_base_.wrn_40_2,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs/teachers}}/wrn_40_2_cifar100')
