# Hinton's KD on CIFAR-100 with MMRazor's loss: the student learns the teacher's softened answers (T = 4).
# A pair's config gives the labels the weight that is left, 0.1.
_base_ = ['../datasets/cifar100.py', '../schedules/cifar100_240e.py', '../runtime.py']

model = dict(
    type='mmkd_atsc.MultiTeacherDistill',
    distiller=dict(
        type='mmrazor.ConfigurableDistiller',
        student_recorders=dict(logits=dict(type='ModuleOutputs', source='head')),
        teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head')),
        distill_losses=dict(loss_kd=dict(type='mmrazor.KLDivergence', tau=4, loss_weight=0.9)),
        loss_forward_mappings=dict(
            loss_kd=dict(
                preds_S=dict(from_student=True, recorder='logits'),
                preds_T=dict(from_student=False, recorder='logits')))))

val_cfg = dict(type='mmkd_atsc.DistillValLoop')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
