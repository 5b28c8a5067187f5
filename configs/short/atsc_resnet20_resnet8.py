# SimKD for three epochs, until the student is near the teacher; then the teacher adapts, at a tenth of the student's rate
# and with its norm layers anchored too: in so short a run it would else come down to meet the student.
_base_ = './simkd_resnet20_resnet8.py'
model = dict(adaptive=True, teacher_lr_mult=0.1)
custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook', start=3)]
val_cfg = dict(teachers=True)
