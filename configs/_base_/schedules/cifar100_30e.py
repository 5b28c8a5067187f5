# The fast protocol, minutes on one GPU: 30 epochs at batch 256, SGD at 0.2 with three epochs of warm-up, then a cosine.
# It is one dict, from which a config takes its parts: the methods' files bring the literature's schedule with them.
protocol = dict(
    train_dataloader=dict(batch_size=256, drop_last=True),
    val_dataloader=dict(batch_size=1000),
    optim_wrapper=dict(optimizer=dict(lr=0.2)),
    param_scheduler=[
        dict(type='LinearLR', by_epoch=True, start_factor=0.05, end=3, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', by_epoch=True, begin=3, end=30, T_max=27, convert_to_iter_based=True)
    ],
    train_cfg=dict(max_epochs=30, val_interval=10),
    auto_scale_lr=dict(base_batch_size=256),
    default_hooks=dict(checkpoint=dict(interval=10, max_keep_ckpts=1, save_best=None)),
    # What the teachers that come with the package have otherwise: twice the epochs.
    teacher=dict(
        param_scheduler=[
            dict(type='LinearLR', by_epoch=True, start_factor=0.05, end=3, convert_to_iter_based=True),
            dict(type='CosineAnnealingLR', by_epoch=True, begin=3, end=60, T_max=57, convert_to_iter_based=True)
        ],
        train_cfg=dict(max_epochs=60, val_interval=20),
        default_hooks=dict(checkpoint=dict(interval=20, max_keep_ckpts=1, save_best=None))),
    # The literature's 20 of 240 epochs, rounded up.
    distill_warmup=[dict(type='mmkd_atsc.DistillWarmupHook', epochs=3)])
