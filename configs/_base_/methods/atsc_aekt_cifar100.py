# ATSC and AEKT at once on CIFAR-100: the sum of both methods' losses. The student's feature learns from the teacher's by
# ATSC. Its logits, through the classifier that they share, learn from the labels and, behind AEKT's layer, from the
# teacher's logits. From the losses on logits only the student learns: teacher and classifier are their target.
_base_ = ['./atsc_cifar100.py']

logits = dict(type='mmrazor.ModuleOutputs', source='head')
model = dict(
    student_ce_weight=1.0,  # AEKT's cross-entropy, on the logits before the layer
    distiller=dict(
        student_recorders=dict(logits=logits, labels=dict(type='mmkd_atsc.Labels')),
        teacher_recorders=dict(logits=logits),
        connectors=dict(fc=dict(type='mmkd_atsc.SerializationFC', lr_mult=0.01, weight_decay=0.0)),
        distill_losses=dict(loss_aekt=dict(
            type='mmkd_atsc.AEKTLoss', tau=4.0, alpha=1.0, beta=8.0, gamma=1.0, max_pull=None)),
        loss_forward_mappings=dict(loss_aekt=dict(
            preds_S=dict(from_student=True, recorder='logits', connector='fc'),
            preds_T=dict(from_student=False, recorder='logits'),
            gt_labels=dict(from_student=True, recorder='labels')))))

# The warm-up is for AEKT alone; the alignment counts in full from the first step.
custom_hooks = [*_base_.custom_hooks, dict(type='mmkd_atsc.DistillWarmupHook', epochs=20, losses=['loss_aekt'])]
