# The student learns one answer: that of all three teachers, each trusted by its probability of the true class.
_base_ = [
    '../../_base_/models/wrn_40_2.py', '../../_base_/models/resnet32x4.py', '../../_base_/models/vgg13.py',
    '../../_base_/models/shufflenetv2.py', '../../_base_/methods/aekt_cifar100.py'
]
model = dict(
    architecture=_base_.shufflenetv2,
    teacher=dict(wrn_40_2=_base_.wrn_40_2, resnet32x4=_base_.resnet32x4, vgg13=_base_.vgg13),
    teacher_ckpt=dict(
        wrn_40_2='{{$MMKD_TEACHERS:work_dirs/teachers}}/wrn_40_2_cifar100',
        resnet32x4='{{$MMKD_TEACHERS:mmkd_atsc::weights}}/resnet32x4_cifar100',
        vgg13='{{$MMKD_TEACHERS:work_dirs/teachers}}/vgg13_cifar100'),
    distiller=dict(teacher='confidence'))
optim_wrapper = dict(optimizer=dict(lr=0.01))  # the protocol's rate for depthwise networks
