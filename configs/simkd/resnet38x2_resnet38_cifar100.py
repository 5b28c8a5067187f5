# SimKD is ATSC with a teacher that does not move: the student learns its features and uses its classifier.
_base_ = '../atsc/resnet38x2_resnet38_cifar100.py'
model = dict(adaptive=False)
custom_hooks = []
val_cfg = dict(teachers=False)
