# What a distillation needs beside its model, for those who come from a config of MMPretrain:
#     _base_ = ['mmpretrain::resnet/resnet18_8xb32_in1k.py', 'mmkd_atsc::_base_/distill.py']
#     custom_hooks = [*_base_.get('custom_hooks', []), dict(type='mmkd_atsc.DistillWarmupHook', epochs=1)]
#     del _base_.train_cfg['by_epoch']
#     default_hooks, optim_wrapper = _base_.distill.default_hooks, _base_.distill.optim_wrapper
#     train_cfg, val_cfg, test_cfg = _base_.distill.train_cfg, _base_.distill.val_cfg, _base_.distill.test_cfg
#     log_processor = _base_.distill.log_processor
# MMEngine lets no two base files define the same setting, so all is in one dict; taken from it, each part is merged
# into the other base's. configs/mix/README.md explains the parts.
# Data loaders are built within the scope of their loop; theirs is MMPretrain's.
distill = dict(
    default_hooks=dict(
        runtime_info=dict(type='mmkd_atsc.DeferredRuntimeInfoHook'),
        finite_loss=dict(type='mmkd_atsc.FiniteLossHook'),
        start_check=dict(type='mmkd_atsc.StartCheckHook'),
        exact_resume=dict(type='mmkd_atsc.ExactResumeHook'),
        gather=dict(type='mmkd_atsc.GatherHook'),
        strict_resume=dict(type='mmkd_atsc.StrictResumeHook'),
        checkpoint=dict(type='mmkd_atsc.AtomicCheckpointHook')),
    optim_wrapper=dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor'),
    train_cfg=dict(type='mmkd_atsc.ResumableEpochLoop', _scope_='mmpretrain'),
    val_cfg=dict(type='mmkd_atsc.DistillValLoop', _scope_='mmpretrain'),
    test_cfg=dict(type='mmkd_atsc.DistillTestLoop', _scope_='mmpretrain'),
    # Terms and accuracies in the log are means over the same steps as losses; accuracy/top1 of a validation is no mean.
    log_processor=dict(mean_pattern=r'.*(loss|time|grad_norm|accuracy_|distill\.).*'))
