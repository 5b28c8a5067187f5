# ResNet-8x4: 1,233,540 parameters; its last stage gives 256x8x8 for a 32x32 image.
resnet8x4 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkd_atsc.CIFARResNet', depth=8, widths=(32, 64, 128, 256)),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=256,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
