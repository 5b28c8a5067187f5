_base_ = ['../_base_/models/wrn_40_2.py', '../_base_/models/mobilenetv2.py', '../_base_/methods/atsc_cifar100.py']
model = dict(
    architecture=dict(backbone=dict(**_base_.mobilenetv2.backbone, with_last_conv=False)),
    teacher=_base_.wrn_40_2,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs/teachers}}/wrn_40_2_cifar100')
optim_wrapper = dict(optimizer=dict(lr=0.01))  # the protocol's rate for depthwise networks
