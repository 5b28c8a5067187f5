# ShuffleNetV1 (3 groups): 949,258 parameters; its last stage gives 960x4x4 for a 32x32 image.
shufflenetv1 = dict(
    type='mmpretrain.ImageClassifier',
    backbone=dict(type='mmkd_atsc.CIFARShuffleNetV1', groups=3),
    neck=dict(type='mmpretrain.GlobalAveragePooling'),
    head=dict(
        type='mmpretrain.LinearClsHead',
        num_classes=100,
        in_channels=960,
        loss=dict(type='mmpretrain.CrossEntropyLoss', loss_weight=1.0)))
