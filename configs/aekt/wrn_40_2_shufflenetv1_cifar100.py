_base_ = ['../_base_/models/wrn_40_2.py', '../_base_/models/shufflenetv1.py', '../_base_/methods/aekt_cifar100.py']
model = dict(
    architecture=_base_.shufflenetv1,
    teacher=_base_.wrn_40_2,
    teacher_ckpt='{{$MMKD_TEACHERS:work_dirs/teachers}}/wrn_40_2_cifar100')
optim_wrapper = dict(optimizer=dict(lr=0.01))  # the protocol's rate for depthwise networks
