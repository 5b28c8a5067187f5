# The demo's student taught by two teachers, two trainings of the same network: a branch for each, answers combined.
_base_ = ['./atsc_digits.py']
projector = dict(in_channels=16, out_channels=64)
model = dict(
    architecture=dict(
        neck=dict(_delete_=True, type='mmkd_atsc.MultiFeatureProjector', projectors=dict(one=projector, two=projector)),
        head=dict(_delete_=True, type='mmkd_atsc.MultiClassifierHead')),
    teacher=dict(_delete_=True, one=_base_.model.teacher, two=_base_.model.teacher),
    teacher_ckpt=dict(
        _delete_=True,
        one='{{$DEMO_TEACHER:work_dirs/quickstart/teacher_digits}}',
        two='{{$DEMO_TEACHER2:work_dirs/quickstart/teacher2_digits}}'))
