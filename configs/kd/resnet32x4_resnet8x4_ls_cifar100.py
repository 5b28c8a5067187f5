# KD on standardized logits (Sun et al., CVPR 2024) with its authors' weights: 1 for the labels, 9 tau^2 for the teacher.
_base_ = './resnet32x4_resnet8x4_cifar100.py'
model = dict(
    architecture=dict(head=dict(loss=dict(loss_weight=1.0))),
    distiller=dict(
        connectors=dict(standardize=dict(type='mmkd_atsc.LogitStandardization', tau=2.0)),
        distill_losses=dict(loss_kd=dict(tau=1.0, loss_weight=36.0)),
        loss_forward_mappings=dict(
            loss_kd=dict(preds_S=dict(connector='standardize'), preds_T=dict(connector='standardize')))))
