# MMRazor's own algorithm and distiller, as in its DKD config: AEKTLoss is one more loss, SerializationFC a connector.
# MMRazor's algorithm loads a teacher's checkpoint leniently and shows it the student's normalisation.
_base_ = [
    'mmpretrain::_base_/datasets/imagenet_bs32.py', 'mmpretrain::_base_/schedules/imagenet_bs256.py',
    '../_base_/runtime.py'
]
model = dict(
    _scope_='mmrazor',
    type='SingleTeacherDistill',
    architecture=dict(cfg_path='mmpretrain::resnet/resnet18_8xb32_in1k.py', pretrained=False),
    teacher=dict(cfg_path='mmpretrain::resnet/resnet34_8xb32_in1k.py', pretrained=True),
    distiller=dict(
        type='ConfigurableDistiller',
        student_recorders=dict(
            fc=dict(type='ModuleOutputs', source='head.fc'),
            gt_labels=dict(type='ModuleInputs', source='head.loss_module')),
        teacher_recorders=dict(fc=dict(type='ModuleOutputs', source='head.fc')),
        connectors=dict(serialize=dict(type='mmkd_atsc.SerializationFC', num_classes=1000)),
        distill_losses=dict(
            loss_kl=dict(type='KLDivergence', tau=1, loss_weight=0.5),
            loss_aekt=dict(type='mmkd_atsc.AEKTLoss', tau=1.0, beta=0.5)),
        loss_forward_mappings=dict(
            loss_kl=dict(
                preds_S=dict(from_student=True, recorder='fc'),
                preds_T=dict(from_student=False, recorder='fc')),
            loss_aekt=dict(
                preds_S=dict(from_student=True, recorder='fc', connector='serialize'),
                preds_T=dict(from_student=False, recorder='fc'),
                gt_labels=dict(from_student=True, recorder='gt_labels', data_idx=1)))))
# The layer learns a hundred times slower than the student; as fast, it would learn in its place.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'distiller.connectors': dict(lr_mult=0.01, decay_mult=0.0)}))
data_preprocessor = dict(type='mmpretrain.ClsDataPreprocessor')
train_cfg = dict(_delete_=True, type='mmkd_atsc.ResumableEpochLoop', max_epochs=100)
val_cfg = dict(type='mmrazor.SingleTeacherDistillValLoop')
