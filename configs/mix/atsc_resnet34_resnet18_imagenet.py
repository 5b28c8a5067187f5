# ATSC in MMPretrain's config of the student: the lines of README.md.
_base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py']
model = dict(
    _delete_=True,
    type='mmkd_atsc.AdaptiveTeacherDistill',
    architecture=dict(
        _base_.model,
        neck=dict(type='mmkd_atsc.FeatureProjector'),
        head=dict(type='mmkd_atsc.SharedClassifierHead')),
    teacher=dict(cfg_path='mmpretrain::resnet/resnet34_8xb32_in1k.py', pretrained=True),
    distiller=dict(type='mmkd_atsc.ATSCDistiller', anchor_weight=10.0))
custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook')]
optim_wrapper = dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor')
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
