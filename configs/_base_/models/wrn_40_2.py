# WRN-40-2: 2,255,156 parameters; its last stage gives 128x8x8 for a 32x32 image.
wrn_40_2 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkd_atsc.CIFARWideResNet', depth=40, widen_factor=2),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=128,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
