# WRN-40-1: 569,780 parameters; its last stage gives 64x8x8 for a 32x32 image.
wrn_40_1 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkd_atsc.CIFARWideResNet', depth=40, widen_factor=1),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=64,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
