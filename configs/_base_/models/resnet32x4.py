# ResNet-32x4: 7,433,860 parameters; its last stage gives 256x8x8 for a 32x32 image.
resnet32x4 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkd_atsc.CIFARResNet', depth=32, widths=(32, 64, 128, 256)),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=256,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
