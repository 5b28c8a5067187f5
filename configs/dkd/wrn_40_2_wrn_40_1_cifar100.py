_base_ = ['../_base_/models/wrn_40_2.py', '../_base_/models/wrn_40_1.py', '../_base_/methods/dkd_cifar100.py']
model = dict(
    architecture=_base_.wrn_40_1,
    teacher=_base_.wrn_40_2,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs/teachers}}/wrn_40_2_cifar100',
    distiller=dict(distill_losses=dict(loss_dkd=dict(beta=6.0))))
