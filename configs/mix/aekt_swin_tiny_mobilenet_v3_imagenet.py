# A CNN learns from a transformer: logits are logits, whatever made them.
_base_ = ['mmpretrain::mobilenet_v3/mobilenet-v3-small_8xb128_in1k.py', '../_base_/distill.py']
model = dict(
    _delete_=True,
    type='mmkd_atsc.MultiTeacherDistill',
    architecture=_base_.model,
    teacher=dict(cfg_path='mmpretrain::swin_transformer/swin-tiny_16xb64_in1k.py', pretrained=True),
    distiller=dict(type='mmkd_atsc.AEKTDistiller', tau=1.0, beta=0.5))
custom_hooks = [*_base_.get('custom_hooks', []), dict(type='mmkd_atsc.DistillWarmupHook', epochs=5)]
del _base_.train_cfg['by_epoch']
default_hooks, optim_wrapper = _base_.distill.default_hooks, _base_.distill.optim_wrapper
train_cfg, val_cfg, test_cfg = _base_.distill.train_cfg, _base_.distill.val_cfg, _base_.distill.test_cfg
log_processor = _base_.distill.log_processor
