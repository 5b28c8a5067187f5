# ATSC on CIFAR-100. A pair's config adds the student's backbone and the teacher, or several by name.
_base_ = ['../datasets/cifar100.py', '../schedules/cifar100_240e.py', '../runtime.py']

model = dict(
    type='mmkd_atsc.AdaptiveTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        neck=dict(type='mmkd_atsc.FeatureProjector', factor=2, init_scale=1.0),
        head=dict(type='mmkd_atsc.SharedClassifierHead')),
    # The papers' values; for a schedule of one's own the defaults are others (configs/atsc/README.md).
    student_ce_weight=0.0,
    teacher_lr_mult=1.0,
    distiller=dict(
        type='mmkd_atsc.ATSCDistiller', align_weight=1.0, normalize=False, anchor_weight=1.0, anchor_min_dims=2))

custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook', start=0, stop=None)]
val_cfg = dict(type='mmkd_atsc.DistillValLoop', teachers=True, every_n_epochs=10)
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')

# One GPU is the literature's protocol. N GPUs at 64 images each: N times the rate, grown to over five epochs.
param_scheduler = [
    dict(type='mmkd_atsc.DistributedWarmupLR', by_epoch=True, end=5, convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)
]
auto_scale_lr = dict(enable=True)
