# The flagship's batch on eight GPUs, 8 x 64, on one: the rate is scaled and warmed up as there.
_base_ = './resnet110_resnet32_cifar100.py'
train_dataloader = dict(batch_size=512)
