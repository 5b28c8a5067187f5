# AEKT on CIFAR-100. A pair's config adds the student and the teacher, and beta where DKD's is not 8 for that pair.
_base_ = ['../datasets/cifar100.py', '../schedules/cifar100_240e.py', '../runtime.py']

model = dict(
    type='mmkd_atsc.MultiTeacherDistill',
    # The papers' loss and warm-up; for a schedule of one's own the defaults are others (configs/aekt/README.md).
    distiller=dict(type='mmkd_atsc.AEKTDistiller', tau=4.0, alpha=1.0, beta=8.0, gamma=1.0, max_pull=None))

custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=20)]
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
