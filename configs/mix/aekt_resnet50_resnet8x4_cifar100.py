# The zoo's CIFAR-100 teacher (79.90%), a network of the literature as the student, the literature's data and schedule.
# The teacher was trained with another mean and standard deviation: its images are normalised anew on the fly.
_base_ = ['../_base_/models/resnet8x4.py', '../_base_/methods/aekt_cifar100.py']
model = dict(
    architecture=_base_.resnet8x4,
    teacher=dict(cfg_path='mmpretrain::resnet/resnet50_8xb16_cifar100.py', pretrained=True))
