# The demo's teacher: a ResNet-20 on the handwritten digits.
_base_ = [
    '../_base_/models/resnet20.py', '../_base_/datasets/digits.py', '../_base_/schedules/digits_40e.py',
    '../_base_/runtime.py'
]
model = _base_.resnet20
model.head.num_classes = 10
