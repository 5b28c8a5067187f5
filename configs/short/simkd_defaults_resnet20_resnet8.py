# SimKD with the defaults, which are meant for a schedule of one's own, in place of the papers' values.
_base_ = './simkd_resnet20_resnet8.py'
model = dict(
    student_ce_weight=1.0,
    teacher_lr_mult=0.1,
    architecture=dict(neck=dict(_delete_=True, type='mmkd_atsc.FeatureProjector')),
    distiller=dict(_delete_=True, type='mmkd_atsc.ATSCDistiller'))
