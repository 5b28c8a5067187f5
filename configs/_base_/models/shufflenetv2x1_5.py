# ShuffleNetV2 (width 1.5): 2,580,548 parameters; its last stage gives 704x4x4 for a 32x32 image.
shufflenetv2x1_5 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkd_atsc.CIFARShuffleNetV2', widen_factor=1.5),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=1024,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
