# A CNN learns from a transformer: logits are logits, whatever made them.
_base_ = ['mmpretrain::mobilenet_v3/mobilenet-v3-small_8xb128_in1k.py']
model = dict(
    _delete_=True,
    type='mmkd_atsc.MultiTeacherDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py', pretrained=True),
    distiller=dict(type='mmkd_atsc.AEKTDistiller', tau=1.0, beta=0.5))
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=5)]
optim_wrapper = dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor')
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
