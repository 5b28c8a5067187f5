_base_ = ['../_base_/models/resnet56.py', '../_base_/models/resnet20.py', '../_base_/methods/aekt_cifar100.py']
model = dict(
    architecture=_base_.resnet20,
    teacher=_base_.resnet56,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs/teachers}}/resnet56_cifar100',
    distiller=dict(beta=2.0))
