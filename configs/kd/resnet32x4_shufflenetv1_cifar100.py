_base_ = ['../_base_/models/resnet32x4.py', '../_base_/models/shufflenetv1.py', '../_base_/methods/kd_cifar100.py']
_base_.shufflenetv1.head.loss.loss_weight = 0.1  # the protocol's weights: 0.1 for the labels, 0.9 for the teacher
model = dict(
    architecture=_base_.shufflenetv1,
    teacher=_base_.resnet32x4,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet32x4_cifar100')
optim_wrapper = dict(optimizer=dict(lr=0.01))  # the protocol's rate for depthwise networks
