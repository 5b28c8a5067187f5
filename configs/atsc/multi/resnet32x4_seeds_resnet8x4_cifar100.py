# Three teachers of one architecture, trained with three seeds; their work directories say which.
_base_ = [
    '../../_base_/models/resnet32x4.py', '../../_base_/models/resnet8x4.py',
    '../../_base_/methods/atsc_cifar100.py'
]
model = dict(
    architecture=dict(backbone=_base_.resnet8x4.backbone),
    teacher=dict(seed0=_base_.resnet32x4, seed1=_base_.resnet32x4, seed2=_base_.resnet32x4),
    teacher_ckpt=dict(
        seed0='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet32x4_cifar100',
        seed1='{{$MMKD_TEACHERS:work_dirs/teachers}}/resnet32x4_cifar100_seed1',
        seed2='{{$MMKD_TEACHERS:work_dirs/teachers}}/resnet32x4_cifar100_seed2'))
