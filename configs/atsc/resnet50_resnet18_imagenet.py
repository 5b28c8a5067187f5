# ResNet-50 to ResNet-18 on ImageNet with the model zoo's teacher; 4 GPUs at 64 images each.
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs64.py', '../_base_/runtime.py']
model = dict(
    type='mmkd_atsc.AdaptiveTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='mmpretrain.ResNet', depth=18),
        neck=dict(type='mmkd_atsc.FeatureProjector', init_scale=1.0),
        head=dict(type='mmkd_atsc.SharedClassifierHead')),
    teacher=dict(cfg_path='mmpretrain::resnet/resnet50_8xb32_in1k.py', pretrained=True),
    # The paper's values; the defaults are others.
    student_ce_weight=0.0,
    teacher_lr_mult=1.0,
    distiller=dict(
        type='mmkd_atsc.ATSCDistiller', align_weight=1.0, normalize=False, anchor_weight=10.0, anchor_min_dims=2))

custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook', start=0)]
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmkd_atsc.DistillOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=1e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[30, 60, 90], gamma=0.1)
train_cfg = dict(type='mmkd_atsc.ResumableEpochLoop', max_epochs=120, val_interval=1)
val_cfg = dict(type='mmkd_atsc.DistillValLoop', teachers=True, every_n_epochs=10)
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
auto_scale_lr = dict(base_batch_size=256)
