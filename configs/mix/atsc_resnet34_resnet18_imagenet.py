# ATSC in MMPretrain's config of the student: the recipe of README.md.
_base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py', '../_base_/distill.py']
model = dict(
    _delete_=True,
    type='mmkd_atsc.AdaptiveTeacherDistill',
    architecture=dict(
        _base_.model,
        neck=dict(type='mmkd_atsc.FeatureProjector'),
        head=dict(type='mmkd_atsc.SharedClassifierHead')),
    teacher=dict(cfg_path='mmpretrain::resnet/resnet34_8xb32_in1k.py', pretrained=True),
    distiller=dict(type='mmkd_atsc.ATSCDistiller', anchor_weight=10.0))
custom_hooks = [*_base_.get('custom_hooks', []), dict(type='mmkd_atsc.AdaptiveTeacherHook')]
del _base_.train_cfg['by_epoch']
default_hooks, optim_wrapper = _base_.distill.default_hooks, _base_.distill.optim_wrapper
train_cfg, val_cfg, test_cfg = _base_.distill.train_cfg, _base_.distill.val_cfg, _base_.distill.test_cfg
log_processor = _base_.distill.log_processor
