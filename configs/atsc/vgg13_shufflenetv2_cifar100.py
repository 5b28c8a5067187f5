_base_ = ['../_base_/models/vgg13.py', '../_base_/models/shufflenetv2.py', '../_base_/methods/atsc_cifar100.py']
model = dict(
    architecture=dict(backbone=dict(**_base_.shufflenetv2.backbone, with_last_conv=False)),
    teacher=_base_.vgg13,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs/teachers}}/vgg13_cifar100')
optim_wrapper = dict(optimizer=dict(lr=0.01))  # the protocol's rate for depthwise networks
