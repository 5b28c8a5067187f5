# DKD on standardized logits (Sun et al., CVPR 2024) with its authors' weight for this pair, 15 tau^2.
_base_ = './resnet110_resnet32_cifar100.py'
model = dict(distiller=dict(
    connectors=dict(standardize=dict(type='mmkd_atsc.LogitStandardization', tau=2.0)),
    distill_losses=dict(loss_dkd=dict(tau=1.0, loss_weight=60.0)),
    loss_forward_mappings=dict(
        loss_dkd=dict(preds_S=dict(connector='standardize'), preds_T=dict(connector='standardize')))))
