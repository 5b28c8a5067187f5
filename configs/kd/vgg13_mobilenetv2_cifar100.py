_base_ = ['../_base_/models/vgg13.py', '../_base_/models/mobilenetv2.py', '../_base_/methods/kd_cifar100.py']
_base_.mobilenetv2.head.loss.loss_weight = 0.1  # the protocol's weights: 0.1 for the labels, 0.9 for the teacher
model = dict(
    architecture=_base_.mobilenetv2,
    teacher=_base_.vgg13,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs/teachers}}/vgg13_cifar100')
optim_wrapper = dict(optimizer=dict(lr=0.01))  # the protocol's rate for depthwise networks
