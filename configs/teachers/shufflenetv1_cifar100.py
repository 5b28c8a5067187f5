_base_ = [
    '../_base_/models/shufflenetv1.py', '../_base_/datasets/cifar100.py', '../_base_/schedules/cifar100_240e.py',
    '../_base_/runtime.py'
]
model = _base_.shufflenetv1
optim_wrapper = dict(optimizer=dict(lr=0.01))  # the protocol's rate for depthwise networks
