# AEKT on the logits beside attention transfer, MMRazor's, on the last feature map. The warm-up is for AEKT alone.
_base_ = ['./aekt_resnet34_resnet18_imagenet.py']
feature = dict(type='mmrazor.ModuleOutputs', source='backbone.layer4')
model = dict(distiller=dict(
    student_recorders=dict(feature=feature),
    teacher_recorders=dict(feature=feature),
    distill_losses=dict(loss_attention=dict(type='mmrazor.ATLoss', loss_weight=1000.0)),
    loss_forward_mappings=dict(loss_attention=dict(
        s_feature=dict(from_student=True, recorder='feature'),
        t_feature=dict(from_student=False, recorder='feature')))))
custom_hooks = [*_base_.custom_hooks[:-1], dict(type='mmkd_atsc.DistillWarmupHook', epochs=1, losses=['loss_aekt'])]
