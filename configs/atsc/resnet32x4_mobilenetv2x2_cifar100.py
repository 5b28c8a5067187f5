_base_ = ['../_base_/models/resnet32x4.py', '../_base_/models/mobilenetv2x2.py', '../_base_/methods/atsc_cifar100.py']
model = dict(
    architecture=dict(backbone=dict(**_base_.mobilenetv2x2.backbone, with_last_conv=False)),
    teacher=_base_.resnet32x4,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet32x4_cifar100')
optim_wrapper = dict(optimizer=dict(lr=0.01))  # the protocol's rate for depthwise networks
