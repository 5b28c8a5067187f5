"""MMRazor's stock classification distillations in tools/train.py, as the table in configs/mix/README.md says."""
import math
import re
from pathlib import Path

import mmrazor
import pytest

from tests.conftest import ROOT

from .training import train, write_child

STOCK = Path(mmrazor.__file__).parent / '.mim' / 'configs' / 'distill' / 'mmcls'
TABLE = dict(re.findall(r'^\| `(\w+/[\w-]+)` \| (\w+)', (ROOT / 'configs/mix/README.md').read_text(), flags=re.M))
# In place of downloaded weights, and of those that an earlier training leaves.
TEACHER = 'model = dict(teacher=dict(pretrained=False), teacher_ckpt=None, init_cfg=None)'
SELF = "model = dict(architecture=dict(data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor')))"
CRD = TEACHER + """
model.update(distiller=dict(distill_losses=dict(loss_crd=dict(neg_num=4))))
custom_imports = dict(imports=['tests.tiny_cifar'])
tiny = dict(type='mmkd_atsc.TinyCIFAR10', _scope_='mmkd_atsc')
loader = dict(batch_size=14, num_workers=0, persistent_workers=False, dataset=dict(neg_num=4, dataset=tiny))
train_dataloader = val_dataloader = loader
train_cfg = dict(max_epochs=1)
param_scheduler = None
"""
def test_the_table_has_every_config():
    """``crd/datasets`` holds a part of a config."""
    assert set(TABLE) == {str(path.relative_to(STOCK).with_suffix('')) for path in STOCK.glob('*/*.py')}
    assert set(TABLE.values()) == {'yes', 'no', 'GPU'}


@pytest.mark.parametrize('name', [name for name, runs in TABLE.items() if runs == 'yes'])
def test_a_config_trains(name, tmp_path, in_process):
    in_cifar = 'cifar' in name
    child = write_child(tmp_path / 'child.py', STOCK / f'{name}.py', 32 if in_cifar else 64,
                        100 if 'cifar100' in name else 10 if in_cifar else 1000,
                        SELF if name.startswith('byot') else TEACHER)
    if name.startswith('crd'):  # its own data set chooses negative samples
        child.write_text(f'_base_ = [{str(STOCK / name)!r} + ".py"]\n{CRD}')
    log = train(child, tmp_path / 'work')
    losses = [value for key, value in log.items() if key.startswith('distill.loss')]
    assert math.isfinite(log['loss']) and any(losses) and any(key.endswith('accuracy/top1') for key in log)
