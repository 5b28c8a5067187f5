# The literature's schedule: 240 epochs of SGD, the learning rate divided by 10 at 150, 180 and 210.
# MobileNet and ShuffleNet students start from 0.01: optim_wrapper = dict(optimizer=dict(lr=0.01)).
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmkd_atsc.DistillOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type='MultiStepLR', by_epoch=True, milestones=[150, 180, 210], gamma=0.1)

train_cfg = dict(type='mmkd_atsc.ResumableEpochLoop', max_epochs=240, val_interval=1)
val_cfg = dict()
test_cfg = dict()

# The learning rate is meant for a batch of 64; --auto-scale-lr scales it to the batch of all GPUs.
auto_scale_lr = dict(base_batch_size=64)
