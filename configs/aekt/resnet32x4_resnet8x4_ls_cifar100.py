# AEKT on standardized logits (Sun et al., CVPR 2024); the student's go through the serialization layer first. The weight
# is DKD's on standardized logits for this pair, 9 tau^2; gamma makes the pull on a logit about that of plain AEKT.
_base_ = './resnet32x4_resnet8x4_cifar100.py'
standardize = dict(type='mmkd_atsc.LogitStandardization', tau=2.0)
model = dict(distiller=dict(
    tau=1.0,
    gamma=0.5,
    loss_weight=36.0,
    connectors=dict(standardize=standardize, fc=[dict(type='mmkd_atsc.SerializationFC'), standardize]),
    loss_forward_mappings=dict(loss_aekt=dict(
        preds_S=dict(from_student=True, recorder='logits', connector='fc'),
        preds_T=dict(from_student=False, recorder='logits', connector='standardize'),
        gt_labels=dict(from_student=True, recorder='labels', data_idx=1)))))
