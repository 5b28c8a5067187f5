# DKD on CIFAR-100: AEKT's loss without its third term. A pair's config gives beta where it is not 8.
_base_ = ['../datasets/cifar100.py', '../schedules/cifar100_240e.py', '../runtime.py']

model = dict(
    type='mmkd_atsc.MultiTeacherDistill',
    distiller=dict(
        type='mmrazor.ConfigurableDistiller',
        student_recorders=dict(
            logits=dict(type='ModuleOutputs', source='head'),
            labels=dict(type='ModuleInputs', source='head.loss_module')),
        teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head')),
        distill_losses=dict(
            loss_dkd=dict(
                type='mmkd_atsc.AEKTLoss', tau=4.0, alpha=1.0, beta=8.0, gamma=0.0, max_pull=None)),  # the paper's
        loss_forward_mappings=dict(
            loss_dkd=dict(
                preds_S=dict(from_student=True, recorder='logits'),
                preds_T=dict(from_student=False, recorder='logits'),
                gt_labels=dict(from_student=True, recorder='labels', data_idx=1)))))

custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=20)]
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
