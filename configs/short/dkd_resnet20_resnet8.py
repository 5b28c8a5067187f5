_base_ = [
    '../_base_/models/resnet20.py', '../_base_/models/resnet8.py', '../_base_/methods/dkd_cifar100.py',
    '../_base_/schedules/cifar100_6e.py'
]
model = dict(
    architecture=_base_.resnet8,
    teacher=_base_.resnet20,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/short_resnet20',
    distiller=dict(distill_losses=dict(loss_dkd=dict(beta=2.0))))
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=1)]
param_scheduler = _base_.short_schedule
train_cfg = dict(max_epochs=6)
