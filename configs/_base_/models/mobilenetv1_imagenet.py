# MobileNet for ImageNet: 4,231,976 parameters; its last stage gives 1024x7x7 for a 224x224 image.
mobilenetv1 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkd_atsc.MobileNetV1', widen_factor=1.0),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=1000,
        in_channels=1024,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
