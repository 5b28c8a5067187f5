# A transformer learns from a CNN. The student's mixup, CutMix, label smoothing, gradient clipping and weight-decay
# exemptions stay as MMPretrain's config has them; the teacher sees the mixed images.
_base_ = ['mmpretrain::deit/deit-tiny_4xb256_in1k.py']
model = dict(
    _delete_=True,
    type='mmkd_atsc.MultiTeacherDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmpretrain::resnet/resnet50_8xb256-rsb-a1-600e_in1k.py', pretrained=True),
    distiller=dict(type='mmkd_atsc.AEKTDistiller', tau=1.0, beta=0.5))
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=20)]
optim_wrapper = dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor')
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
