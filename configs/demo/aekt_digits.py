# The demo's student taught by AEKT: the teacher's logits, with the confidence in the right class taught explicitly.
_base_ = ['./teacher_digits.py', '../_base_/models/resnet8_tiny_digits.py']
model = dict(
    _delete_=True,
    type='mmkd_atsc.MultiTeacherDistill',
    architecture=_base_.resnet8_tiny,
    teacher=_base_.model,
    teacher_ckpt='{{$DEMO_TEACHER:work_dirs/quickstart/teacher_digits}}',
    distiller=dict(type='mmkd_atsc.AEKTDistiller', beta=2.0, gamma=1.0, max_pull=None))
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=5)]
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
