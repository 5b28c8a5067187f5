# The short protocol's student alone.
_base_ = ['../teachers/resnet8_cifar100.py', '../_base_/schedules/cifar100_6e.py']
param_scheduler = _base_.short_schedule
train_cfg = dict(max_epochs=6)
