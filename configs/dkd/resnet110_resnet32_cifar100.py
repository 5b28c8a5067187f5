_base_ = ['../_base_/models/resnet110.py', '../_base_/models/resnet32.py', '../_base_/methods/dkd_cifar100.py']
model = dict(
    architecture=_base_.resnet32,
    teacher=_base_.resnet110,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet110_cifar100',
    distiller=dict(distill_losses=dict(loss_dkd=dict(beta=2.0))))
