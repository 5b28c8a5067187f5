# ResNet-34 to ResNet-18 on ImageNet with the model zoo's teacher.
_base_ = ['mmpretrain::_base_/datasets/imagenet_bs32.py', 'mmpretrain::_base_/schedules/imagenet_bs256.py', '../_base_/runtime.py']
model = dict(
    type='mmkd_atsc.MultiTeacherDistill',
    architecture=dict(cfg_path='mmpretrain::resnet/resnet18_8xb32_in1k.py'),
    teacher=dict(cfg_path='mmpretrain::resnet/resnet34_8xb32_in1k.py', pretrained=True),
    distiller=dict(type='mmkd_atsc.AEKTDistiller', tau=1.0, beta=0.5, max_pull=None))
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=1)]
optim_wrapper = dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor')
train_cfg = dict(_delete_=True, type='mmkd_atsc.ResumableEpochLoop', max_epochs=100)
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
