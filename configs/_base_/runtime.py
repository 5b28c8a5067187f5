default_scope = 'mmpretrain'

default_hooks = dict(
    accelerate=dict(type='mmkd_atsc.AccelerateHook', channels_last='auto', compile=False),
    runtime_info=dict(type='mmkd_atsc.DeferredRuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    finite_loss=dict(type='mmkd_atsc.FiniteLossHook'),
    # A pretrained teacher that gets no more than 5% right was trained on other data, or sees them otherwise.
    start_check=dict(type='mmkd_atsc.StartCheckHook', score_teachers=True, min_teacher_accuracy=5.0),
    exact_resume=dict(type='mmkd_atsc.ExactResumeHook'),
    gather=dict(type='mmkd_atsc.GatherHook'),
    strict_resume=dict(type='mmkd_atsc.StrictResumeHook'),
    checkpoint=dict(
        type='mmkd_atsc.AtomicCheckpointHook', interval=1, max_keep_ckpts=2, save_best='auto', rule='greater'),
    sampler_seed=dict(type='DistSamplerSeedHook'))

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

# A line's losses, terms, accuracies and time are means over the steps since the last line. MMEngine's pattern has no
# terms and accuracies; accuracy/top1 of a validation is no mean.
log_processor = dict(window_size=100, mean_pattern=r'.*(loss|time|grad_norm|accuracy_|distill\.).*')

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='mmpretrain.UniversalVisualizer', vis_backends=vis_backends)

log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0, diff_rank_seed=True, deterministic=False)
