_base_ = './atsc_resnet20_resnet8.py'
model = dict(adaptive=False)
custom_hooks = []
val_cfg = dict(teachers=False)
