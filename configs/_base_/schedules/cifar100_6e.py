# The short protocol's learning rate, for two CPU cores: one epoch of warm-up, then down a cosine each step to epoch 6.
short_schedule = [
    dict(type='LinearLR', by_epoch=True, start_factor=0.1, end=1, convert_to_iter_based=True),
    dict(type='CosineAnnealingLR', by_epoch=True, begin=1, end=6, T_max=5, convert_to_iter_based=True)
]
