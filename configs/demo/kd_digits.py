# The demo's student taught by MMRazor's plain KD: the student learns the teacher's softened answers.
_base_ = ['./teacher_digits.py', '../_base_/models/resnet8_tiny_digits.py']
model = dict(
    _delete_=True,
    type='mmkd_atsc.MultiTeacherDistill',
    architecture=_base_.resnet8_tiny,
    teacher=_base_.model,
    teacher_ckpt='{{$DEMO_TEACHER:work_dirs/quickstart/teacher_digits}}',
    distiller=dict(
        type='mmrazor.ConfigurableDistiller',
        student_recorders=dict(logits=dict(type='ModuleOutputs', source='head')),
        teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head')),
        distill_losses=dict(loss_kd=dict(type='mmrazor.KLDivergence', tau=4)),
        loss_forward_mappings=dict(
            loss_kd=dict(
                preds_S=dict(from_student=True, recorder='logits'),
                preds_T=dict(from_student=False, recorder='logits')))))
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
