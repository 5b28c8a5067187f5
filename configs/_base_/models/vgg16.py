# VGG-16: 14,774,436 parameters; its last stage gives 512x4x4 for a 32x32 image.
vgg16 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkd_atsc.CIFARVGG', depth=16),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=512,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
