# A schedule of minutes for the demo: 40 epochs of SGD, the learning rate down a cosine each step.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmkd_atsc.DistillOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='CosineAnnealingLR', by_epoch=True, T_max=40, convert_to_iter_based=True)

train_cfg = dict(type='mmkd_atsc.ResumableEpochLoop', max_epochs=40, val_interval=5)
val_cfg = dict()
test_cfg = dict()

auto_scale_lr = dict(base_batch_size=40)
