_base_ = ['../_base_/models/vgg13.py', '../_base_/models/vgg8.py', '../_base_/methods/dkd_cifar100.py']
model = dict(
    architecture=_base_.vgg8,
    teacher=_base_.vgg13,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs/teachers}}/vgg13_cifar100',
    distiller=dict(distill_losses=dict(loss_dkd=dict(beta=6.0))))
