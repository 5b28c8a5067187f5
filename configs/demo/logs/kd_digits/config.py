auto_scale_lr = dict(base_batch_size=40)
data_preprocessor = dict(
    mean=[
        127.5,
        127.5,
        127.5,
    ],
    num_classes=10,
    std=[
        127.5,
        127.5,
        127.5,
    ],
    to_rgb=False,
    type='mmpretrain.ClsDataPreprocessor')
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
        backbone=dict(
            depth=8, type='mmkd_atsc.CIFARResNet', widths=(
                4,
                4,
                8,
                16,
            )),
        head=dict(
            in_channels=16,
            loss=dict(loss_weight=1.0, type='mmpretrain.CrossEntropyLoss'),
            num_classes=10,
            type='mmpretrain.LinearClsHead'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        type='mmpretrain.ImageClassifier'),
    distiller=dict(
        distill_losses=dict(loss_kd=dict(tau=4, type='mmrazor.KLDivergence')),
        loss_forward_mappings=dict(
            loss_kd=dict(
                preds_S=dict(from_student=True, recorder='logits'),
                preds_T=dict(from_student=False, recorder='logits'))),
        student_recorders=dict(
            logits=dict(source='head', type='ModuleOutputs')),
        teacher_recorders=dict(
            logits=dict(source='head', type='ModuleOutputs')),
        type='mmrazor.ConfigurableDistiller'),
    teacher=dict(
        backbone=dict(depth=20, type='mmkd_atsc.CIFARResNet'),
        head=dict(
            in_channels=64,
            loss=dict(loss_weight=1.0, type='mmpretrain.CrossEntropyLoss'),
            num_classes=10,
            type='mmpretrain.LinearClsHead'),
        neck=dict(type='mmpretrain.GlobalAveragePooling'),
        type='mmpretrain.ImageClassifier'),
    teacher_ckpt='teacher_digits',
    type='mmkd_atsc.MultiTeacherDistill')
optim_wrapper = dict(
    constructor='mmkd_atsc.DistillOptimWrapperConstructor',
    optimizer=dict(lr=0.05, momentum=0.9, type='SGD', weight_decay=0.0005),
    type='OptimWrapper')
param_scheduler = dict(
    T_max=40,
    by_epoch=True,
    convert_to_iter_based=True,
    type='CosineAnnealingLR')
randomness = dict(deterministic=False, diff_rank_seed=True, seed=0)
resnet20 = dict(
    backbone=dict(depth=20, type='mmkd_atsc.CIFARResNet'),
    head=dict(
        in_channels=64,
        loss=dict(loss_weight=1.0, type='mmpretrain.CrossEntropyLoss'),
        num_classes=10,
        type='mmpretrain.LinearClsHead'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    type='mmpretrain.ImageClassifier')
resnet8_tiny = dict(
    backbone=dict(
        depth=8, type='mmkd_atsc.CIFARResNet', widths=(
            4,
            4,
            8,
            16,
        )),
    head=dict(
        in_channels=16,
        loss=dict(loss_weight=1.0, type='mmpretrain.CrossEntropyLoss'),
        num_classes=10,
        type='mmpretrain.LinearClsHead'),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    type='mmpretrain.ImageClassifier')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
test_dataloader = dict(
    batch_size=200,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        pipeline=[
            dict(type='mmpretrain.PackInputs'),
        ],
        split='test',
        type='mmkd_atsc.Digits'),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(topk=(1, ), type='mmpretrain.Accuracy')
train_cfg = dict(
    max_epochs=40, type='mmkd_atsc.ResumableEpochLoop', val_interval=5)
train_dataloader = dict(
    batch_size=40,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        pipeline=[
            dict(crop_size=32, padding=4, type='mmpretrain.RandomCrop'),
            dict(type='mmpretrain.PackInputs'),
        ],
        split='train',
        type='mmkd_atsc.Digits'),
    num_workers=0,
    sampler=dict(shuffle=True, type='DefaultSampler'))
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
val_dataloader = dict(
    batch_size=200,
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        pipeline=[
            dict(type='mmpretrain.PackInputs'),
        ],
        split='test',
        type='mmkd_atsc.Digits'),
    num_workers=0,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(topk=(1, ), type='mmpretrain.Accuracy')
vis_backends = [
    dict(type='LocalVisBackend'),
]
visualizer = dict(
    type='mmpretrain.UniversalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
    ])
