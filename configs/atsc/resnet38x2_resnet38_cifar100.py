_base_ = ['../_base_/models/resnet38x2.py', '../_base_/models/resnet38.py', '../_base_/methods/atsc_cifar100.py']
model = dict(
    architecture=dict(backbone=_base_.resnet38.backbone),
    teacher=_base_.resnet38x2,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs/teachers}}/resnet38x2_cifar100')
