_base_ = [
    '../_base_/models/resnet14x2.py', '../_base_/datasets/cifar100.py', '../_base_/schedules/cifar100_240e.py',
    '../_base_/runtime.py'
]
model = _base_.resnet14x2
