# AEKT in MMPretrain's config of the student: the lines of README.md.
_base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py']
model = dict(
    _delete_=True,
    type='mmkd_atsc.MultiTeacherDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmpretrain::resnet/resnet34_8xb32_in1k.py', pretrained=True),
    distiller=dict(type='mmkd_atsc.AEKTDistiller', tau=1.0, beta=0.5))
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=1)]
optim_wrapper = dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor')
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
