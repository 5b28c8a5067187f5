# The demo's student: a ResNet-8 of a quarter of the usual width, small enough to need a teacher.
resnet8_tiny = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkd_atsc.CIFARResNet', depth=8, widths=(4, 4, 8, 16)),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=10,
        in_channels=16,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
