_base_ = ['../_base_/models/resnet32x4.py', '../_base_/models/wrn_40_2.py', '../_base_/methods/atsc_cifar100.py']
model = dict(
    architecture=dict(backbone=_base_.wrn_40_2.backbone),
    teacher=_base_.resnet32x4,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet32x4_cifar100')
