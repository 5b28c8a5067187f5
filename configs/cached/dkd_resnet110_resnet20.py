_base_ = [
    '../_base_/models/resnet110.py', '../_base_/models/resnet20.py', '../_base_/methods/dkd_cifar100.py',
    '../_base_/schedules/cifar100_24e.py'
]
model = dict(
    architecture=_base_.resnet20,
    teacher=_base_.resnet110,
    teacher_ckpt='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet110_cifar100',
    teacher_cache='{{$MMKD_CACHES:work_dirs}}/resnet110_cifar100/teacher.cache',
    distiller=dict(distill_losses=dict(loss_dkd=dict(beta=2.0))))
param_scheduler, train_cfg = _base_.cached_schedule, _base_.cached_epochs
custom_hooks = _base_.cached_warmup
