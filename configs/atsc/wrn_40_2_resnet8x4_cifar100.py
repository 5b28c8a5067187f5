_base_ = ['../_base_/models/wrn_40_2.py', '../_base_/models/resnet8x4.py', '../_base_/methods/atsc_cifar100.py']
model = dict(
    architecture=dict(backbone=_base_.resnet8x4.backbone),
    teacher=_base_.wrn_40_2,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs/teachers}}/wrn_40_2_cifar100')
