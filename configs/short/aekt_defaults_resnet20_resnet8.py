# AEKT with the defaults, which are meant for a schedule of one's own, in place of the papers' values.
_base_ = './aekt_resnet20_resnet8.py'
model = dict(distiller=dict(_delete_=True, type='mmkd_atsc.AEKTDistiller'))
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook')]
