_base_ = ['../_base_/models/resnet110.py', '../_base_/models/resnet32.py', '../_base_/methods/atsc_cifar100.py']
model = dict(
    architecture=dict(backbone=_base_.resnet32.backbone),
    teacher=_base_.resnet110,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet110_cifar100')
