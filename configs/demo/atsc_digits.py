# The demo's student taught by ATSC: it learns the features of a teacher that adapts, and uses the teacher's classifier.
_base_ = ['./teacher_digits.py', '../_base_/models/resnet8_tiny_digits.py']
model = dict(
    _delete_=True,
    type='mmkd_atsc.AdaptiveTeacherDistill',
    architecture=dict(
        type='mmpretrain.ImageClassifier',
        backbone=_base_.resnet8_tiny.backbone,
        neck=dict(type='mmkd_atsc.FeatureProjector', init_scale=1.0),
        head=dict(type='mmkd_atsc.SharedClassifierHead')),
    teacher=_base_.model,
    teacher_ckpt='{{$DEMO_TEACHER:work_dirs/quickstart/teacher_digits}}',
    student_ce_weight=0.0,
    teacher_lr_mult=1.0,
    distiller=dict(
        type='mmkd_atsc.ATSCDistiller', align_weight=1.0, normalize=False, anchor_weight=1.0, anchor_min_dims=2))
# 400 steps are few: the teacher waits until the student is near it, else it would come down to meet it.
custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook', start=20, interval=10)]
val_cfg = dict(type='mmkd_atsc.DistillValLoop', teachers=True)
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
