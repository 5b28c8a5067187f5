auto_scale_lr = dict(base_batch_size=64, enable=True)
custom_hooks = [
    dict(start=3, type='mmkd_atsc.AdaptiveTeacherHook'),
]
data_preprocessor = dict(
    mean=[
        129.3105,
        124.1085,
        112.404,
    ],
    num_classes=100,
    std=[
        68.2125,
        65.4075,
        70.4055,
    ],
    to_rgb=False,
    type='mmkd_atsc.BatchedDataPreprocessor')
default_hooks = dict(
    accelerate=dict(
        channels_last='auto', compile=False, type='mmkd_atsc.AccelerateHook'),
    checkpoint=dict(
        interval=1,
        max_keep_ckpts=2,
        rule='greater',
        save_best='auto',
        type='mmkd_atsc.AtomicCheckpointHook'),
    exact_resume=dict(type='mmkd_atsc.ExactResumeHook'),
    finite_loss=dict(max_skipped=0, type='mmkd_atsc.FiniteLossHook'),
    logger=dict(interval=100, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    progress=dict(type='mmkd_atsc.ProgressHook'),
    runtime_info=dict(type='mmkd_atsc.DeferredRuntimeInfoHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    start_check=dict(
        min_teacher_accuracy=5.0,
        score_teachers=True,
        type='mmkd_atsc.StartCheckHook'),
    timer=dict(type='IterTimerHook'))
default_scope = 'mmpretrain'
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
launcher = 'none'
log_level = 'INFO'
log_processor = dict(window_size=100)
model = dict(
    architecture=dict(
        backbone=dict(depth=8, type='mmkd_atsc.CIFARResNet'),
        head=dict(aggregate='mean_prob', type='mmkd_atsc.MultiClassifierHead'),
        neck=dict(
            projectors=dict(
                seed0=dict(in_channels=64, out_channels=64),
                seed1=dict(in_channels=64, out_channels=64)),
            type='mmkd_atsc.MultiFeatureProjector'),
        type='mmpretrain.ImageClassifier'),
    distiller=dict(
        align_weight=1.0,
        anchor_min_dims=1,
        anchor_weight=1.0,
        type='mmkd_atsc.ATSCDistiller'),
    teacher=dict(
        seed0=dict(
            backbone=dict(depth=20, type='mmkd_atsc.CIFARResNet'),
            head=dict(
                in_channels=64,
                loss=dict(loss_weight=1.0, type='mmpretrain.CrossEntropyLoss'),
                num_classes=100,
                type='mmpretrain.LinearClsHead'),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            type='mmpretrain.ImageClassifier'),
        seed1=dict(
            backbone=dict(depth=20, type='mmkd_atsc.CIFARResNet'),
            head=dict(
                in_channels=64,
                loss=dict(loss_weight=1.0, type='mmpretrain.CrossEntropyLoss'),
                num_classes=100,
                type='mmpretrain.LinearClsHead'),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            type='mmpretrain.ImageClassifier')),
    teacher_ckpt=dict(
        seed0='short_resnet20',
        seed1='short_resnet20_seed1'),
    teacher_lr_mult=0.1,
    type='mmkd_atsc.AdaptiveTeacherDistill')
optim_wrapper = dict(
    constructor='mmkd_atsc.DistillOptimWrapperConstructor',
    optimizer=dict(lr=0.05, momentum=0.9, type='SGD', weight_decay=0.0005),
    type='OptimWrapper')
param_scheduler = [
    dict(
        by_epoch=True,
        convert_to_iter_based=True,
        end=1,
        start_factor=0.1,
        type='LinearLR'),
    dict(
        T_max=5,
        begin=1,
        by_epoch=True,
        convert_to_iter_based=True,
        end=6,
        type='CosineAnnealingLR'),
]
projector = dict(in_channels=64, out_channels=64)
randomness = dict(deterministic=False, diff_rank_seed=True, seed=1)
resnet20 = dict(
    backbone=dict(depth=20, type='mmkd_atsc.CIFARResNet'),
    head=dict(
        in_channels=64,
        loss=dict(loss_weight=1.0, type='mmpretrain.CrossEntropyLoss'),
        num_classes=100,
        type='mmpretrain.LinearClsHead'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    type='mmpretrain.ImageClassifier')
resnet8 = dict(
    backbone=dict(depth=8, type='mmkd_atsc.CIFARResNet'),
    head=dict(
        in_channels=64,
        loss=dict(loss_weight=1.0, type='mmpretrain.CrossEntropyLoss'),
        num_classes=100,
        type='mmpretrain.LinearClsHead'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    type='mmpretrain.ImageClassifier')
short_schedule = [
    dict(
        by_epoch=True,
        convert_to_iter_based=True,
        end=1,
        start_factor=0.1,
        type='LinearLR'),
    dict(
        T_max=5,
        begin=1,
        by_epoch=True,
        convert_to_iter_based=True,
        end=6,
        type='CosineAnnealingLR'),
]
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
test_dataloader = dict(
    batch_size=256,
    collate_fn=dict(type='mmkd_atsc.collate_batch'),
    dataset=dict(
        pipeline=[
            dict(type='mmpretrain.PackInputs'),
        ],
        split='test',
        type='mmkd_atsc.BatchedCIFAR100'),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(
    topk=(
        1,
        5,
    ), type='mmpretrain.Accuracy')
train_cfg = dict(
    max_epochs=6, type='mmkd_atsc.ResumableEpochLoop', val_interval=1)
train_dataloader = dict(
    batch_size=64,
    collate_fn=dict(type='mmkd_atsc.collate_batch'),
    dataset=dict(
        pipeline=[
            dict(crop_size=32, padding=4, type='mmpretrain.RandomCrop'),
            dict(
                direction='horizontal', prob=0.5,
                type='mmpretrain.RandomFlip'),
            dict(type='mmpretrain.PackInputs'),
        ],
        split='train',
        type='mmkd_atsc.BatchedCIFAR100'),
    num_workers=0,
    sampler=dict(shuffle=True, type='DefaultSampler'))
val_cfg = dict(
    every_n_epochs=10, teachers=True, type='mmkd_atsc.DistillValLoop')
val_dataloader = dict(
    batch_size=256,
    collate_fn=dict(type='mmkd_atsc.collate_batch'),
    dataset=dict(
        pipeline=[
            dict(type='mmpretrain.PackInputs'),
        ],
        split='test',
        type='mmkd_atsc.BatchedCIFAR100'),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(
    topk=(
        1,
        5,
    ), type='mmpretrain.Accuracy')
vis_backends = [
    dict(type='LocalVisBackend'),
]
visualizer = dict(
    type='mmpretrain.UniversalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
    ])
