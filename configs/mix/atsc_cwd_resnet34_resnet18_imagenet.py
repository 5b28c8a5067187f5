# ATSC beside channel-wise distillation, MMRazor's, of the projected feature. The teacher is its target: from it only the
# student learns.
_base_ = ['./atsc_resnet34_resnet18_imagenet.py']
model = dict(distiller=dict(
    student_recorders=dict(map=dict(type='mmrazor.ModuleOutputs', source='neck')),
    teacher_recorders=dict(map=dict(type='mmrazor.ModuleOutputs', source='backbone.layer4')),
    distill_losses=dict(loss_cwd=dict(type='mmrazor.ChannelWiseDivergence', tau=1.0, loss_weight=1.0)),
    loss_forward_mappings=dict(loss_cwd=dict(
        preds_S=dict(from_student=True, recorder='map', data_idx=0),
        preds_T=dict(from_student=False, recorder='map')))))
