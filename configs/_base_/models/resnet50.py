# ResNet-50: 23,705,252 parameters; its last stage gives 2048x4x4 for a 32x32 image.
resnet50 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkd_atsc.CIFARBottleneckResNet', depth=50),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=2048,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
