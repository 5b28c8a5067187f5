# The demo's student alone.
_base_ = [
    '../_base_/models/resnet8_tiny_digits.py', '../_base_/datasets/digits.py', '../_base_/schedules/digits_40e.py',
    '../_base_/runtime.py'
]
model = _base_.resnet8_tiny
