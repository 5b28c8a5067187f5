# Both methods at once. The student's feature learns from the teacher's by ATSC. Its logits, through the classifier that
# they share, learn from the labels and, behind AEKT's layer, from the teacher's logits. From the losses on logits only the
# student learns: teacher and classifier are their target.
_base_ = ['./atsc_resnet34_resnet18_imagenet.py']
logits = dict(type='mmrazor.ModuleOutputs', source='head')
model = dict(distiller=dict(
    student_recorders=dict(logits=logits, labels=dict(type='mmkd_atsc.Labels')),
    teacher_recorders=dict(logits=logits),
    connectors=dict(fc=dict(type='mmkd_atsc.SerializationFC')),
    distill_losses=dict(loss_aekt=dict(type='mmkd_atsc.AEKTLoss', tau=1.0, beta=0.5)),
    loss_forward_mappings=dict(loss_aekt=dict(
        preds_S=dict(from_student=True, recorder='logits', connector='fc'),
        preds_T=dict(from_student=False, recorder='logits'),
        gt_labels=dict(from_student=True, recorder='labels')))))
custom_hooks = [*_base_.custom_hooks, dict(type='mmkd_atsc.DistillWarmupHook', epochs=1, losses=['loss_aekt'])]
