# ATSC with the defaults, which are meant for a schedule of one's own, in place of the papers' values.
_base_ = './simkd_defaults_resnet20_resnet8.py'
model = dict(adaptive=True)
custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook')]
val_cfg = dict(teachers=True)
