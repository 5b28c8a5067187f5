# ATSC with several teachers on CIFAR-100. A config adds the student's backbone, the teachers by name, and a projector
# for each of them.
_base_ = ['./atsc_cifar100.py']
model = dict(architecture=dict(
    neck=dict(_delete_=True, type='mmkd_atsc.MultiFeatureProjector'),
    head=dict(_delete_=True, type='mmkd_atsc.MultiClassifierHead', aggregate='mean_prob')))
