# The demo's student taught by two teachers, two trainings of the same network: a branch for each, answers combined.
_base_ = ['./atsc_digits.py']
model = dict(
    teacher=dict(_delete_=True, one=_base_.model.teacher, two=_base_.model.teacher),
    teacher_ckpt=dict(
        _delete_=True,
        one='{{$DEMO_TEACHER:work_dirs/quickstart/teacher_digits}}',
        two='{{$DEMO_TEACHER2:work_dirs/quickstart/teacher2_digits}}'))
