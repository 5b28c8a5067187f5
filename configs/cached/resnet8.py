# The student alone.
_base_ = ['../teachers/resnet8_cifar100.py', '../_base_/schedules/cifar100_24e.py']
param_scheduler, train_cfg = _base_.cached_schedule, _base_.cached_epochs
