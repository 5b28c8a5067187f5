"""The batch divided among processes with synchronised batch norm is the protocol of one process, exactly."""
import copy

import pytest
import torch

from mmkd_atsc.runtime import cpu_sync_bn
from tests.conftest import ROOT, run_command, run_tool, tiny_classifier
from tests.test_tools.test_atsc_training import ATSC, weights

PROTOCOL = """
optim_wrapper['optimizer'].update(lr=0.01, momentum=0.9, weight_decay=5e-4)
custom_hooks = [dict(type='mmkd_atsc.AdaptiveTeacherHook')]
train_cfg['max_epochs'] = 2
# What the flagship's config has: linear scaling, which a divided batch must not set off.
auto_scale_lr = dict(enable=True, base_batch_size=50)
param_scheduler = [dict(type='mmkd_atsc.DistributedWarmupLR', by_epoch=True, end=1, convert_to_iter_based=True)]
"""


def test_two_processes_follow_the_protocol_of_one(teacher_checkpoint, tmp_path):
    config = tmp_path / 'atsc.py'
    config.write_text(f'TEACHER = {tiny_classifier(8)!r}\nCHECKPOINT = {teacher_checkpoint!r}\n{ATSC}{PROTOCOL}')
    two = (ROOT / 'tools' / 'dist_train.sh', config, 2, '--cfg-options', 'train_dataloader.batch_size=25')
    runs = [
        run_tool('train.py', config, '--work-dir', tmp_path / 'one', '--cfg-options', 'train_dataloader.batch_size=50'),
        run_command(*two, 'sync_bn=torch', '--work-dir', tmp_path / 'synchronised'),
        run_command(*two, '--work-dir', tmp_path / 'plain')]
    assert [run.returncode for run in runs] == [0, 0, 0], [run.stderr for run in runs]
    # Everything: student, projector, adapted teacher, classifier, and the statistics of batch norm.
    for epoch, rounding in ((1, 1e-5), (2, 1e-4)):
        assert difference(tmp_path, 'one', 'synchronised', epoch) < rounding
    # This would be seen: with batch norm of their own the processes go another way.
    assert difference(tmp_path, 'one', 'plain', 2) > 1e-2


def difference(folder, one, other, epoch):
    one, other = (weights(folder / run / f'epoch_{epoch}.pth') for run in (one, other))
    assert one.keys() == other.keys()
    return max((value.double() - other[key].double()).abs().max().item() for key, value in one.items())


@pytest.mark.parametrize('shape', [(6, 4), (6, 4, 5, 3)])
def test_on_one_process_it_is_batch_norm(shape, monkeypatch):
    """The formula itself, with the sum over processes standing still."""
    monkeypatch.setattr(cpu_sync_bn.dist, 'all_reduce', lambda value: None)
    plain = (torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)(4).double()
    synced = copy.deepcopy(plain)
    synced.__class__ = cpu_sync_bn.CPUSyncBatchNorm
    images = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    outputs = plain(images), synced(images)
    torch.testing.assert_close(*outputs)
    grads = [torch.autograd.grad((out ** 3).sum(), images)[0] for out in outputs]
    torch.testing.assert_close(*grads)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(synced.state_dict()[key], value, msg=key)
