# The cached protocol, hours on two CPU cores: 24 epochs at the literature's rate, one of warm-up, then down a cosine.
cached_schedule = [
    dict(type='LinearLR', by_epoch=True, start_factor=0.1, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=24, T_max=23, convert_to_iter_based=True)
]
cached_epochs = dict(max_epochs=24, val_interval=4)
# The literature's 20 of 240 epochs.
cached_warmup = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=2)]
