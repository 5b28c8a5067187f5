_base_ = ['../_base_/models/resnet32x4.py', '../_base_/models/shufflenetv2.py', '../_base_/methods/aekt_cifar100.py']
model = dict(
    architecture=_base_.shufflenetv2,
    teacher=_base_.resnet32x4,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet32x4_cifar100')
optim_wrapper = dict(optimizer=dict(lr=0.01))  # the protocol's rate for depthwise networks
