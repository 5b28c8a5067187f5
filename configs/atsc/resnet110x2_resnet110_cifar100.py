_base_ = ['../_base_/models/resnet110x2.py', '../_base_/models/resnet110.py', '../_base_/methods/atsc_cifar100.py']
model = dict(
    architecture=dict(backbone=_base_.resnet110.backbone),
    teacher=_base_.resnet110x2,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs/teachers}}/resnet110x2_cifar100')
