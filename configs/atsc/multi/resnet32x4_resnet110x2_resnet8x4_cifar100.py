_base_ = [
    '../../_base_/models/resnet32x4.py', '../../_base_/models/resnet110x2.py', '../../_base_/models/resnet8x4.py',
    '../../_base_/methods/atsc_cifar100.py'
]
model = dict(
    architecture=dict(backbone=_base_.resnet8x4.backbone),
    teacher=dict(resnet32x4=_base_.resnet32x4, resnet110x2=_base_.resnet110x2),
    teacher_ckpt=dict(
        resnet32x4='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet32x4_cifar100',
        resnet110x2='{{$MMKD_TEACHERS:work_dirs/teachers}}/resnet110x2_cifar100'))
