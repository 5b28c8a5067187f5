# What makes a training fast on a GPU: bf16, fused optimizer, compiled blocks, the step as one CUDA graph, and gradients of
# several GPUs averaged after it. `tools/train.py CONFIG --fast` merges it into any config; a config that brings it itself:
#     _base_ = ['./my_config.py', 'mmkd_atsc::_base_/fast.py']
#     optim_wrapper, default_hooks = _base_.fast.optim_wrapper, _base_.fast.default_hooks
#     model_wrapper_cfg = _base_.fast.model_wrapper_cfg
# On a CPU it changes no more than the layout of the weights, and says so.
fast = dict(
    optim_wrapper=dict(type='mmkd_atsc.FastOptimWrapper'),
    model_wrapper_cfg=dict(type='mmkd_atsc.FlatDataParallel'),
    default_hooks=dict(
        accelerate=dict(type='mmkd_atsc.AccelerateHook', channels_last='auto', compile='blocks'),
        step_graph=dict(type='mmkd_atsc.StepGraphHook')))
