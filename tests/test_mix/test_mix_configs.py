"""Every config of configs/mix trains and is validated by a config that inherits it; MMRazor's as the page says."""
import math
import re
from pathlib import Path

import mmrazor
import pytest
from mmengine.config import Config

from mmkd_atsc.models.build import resolve_network
from tests.conftest import ROOT

from .training import train, write_child

MIX = ROOT / 'configs' / 'mix'
NAMES = sorted(path.stem for path in MIX.glob('*.py'))
TERMS = {
    'aekt_resnet34_resnet18_imagenet': {'distill.loss_aekt', 'student.loss', 'distill.accuracy_after_fc'},
    'atsc_resnet34_resnet18_imagenet': {'distill.loss_align', 'distill.loss_anchor', 'teacher.loss'},
    'aekt_resnet50_deit_tiny_imagenet': {'distill.loss_aekt', 'student.loss'},
    'aekt_swin_tiny_mobilenet_v3_imagenet': {'distill.loss_aekt', 'student.loss'},
    'aekt_resnet50_resnet8x4_cifar100': {'distill.loss_aekt', 'student.loss'},
    'aekt_at_resnet34_resnet18_imagenet': {'distill.loss_aekt', 'distill.loss_attention', 'student.loss'},
    'atsc_cwd_resnet34_resnet18_imagenet': {'distill.loss_align', 'distill.loss_cwd', 'teacher.loss'},
    'atsc_aekt_resnet34_resnet18_imagenet': {'distill.loss_align', 'distill.loss_aekt', 'teacher.loss'},
    'single_teacher_aekt_resnet34_resnet18_imagenet': {'distill.loss_aekt', 'distill.loss_kl', 'student.loss'},
}
RANDOM_TEACHER = 'model = dict(teacher=dict(pretrained=False), allow_random_teacher=True)'
MMRAZOR_RANDOM_TEACHER = 'model = dict(teacher=dict(pretrained=False))'


@pytest.mark.parametrize('name', NAMES)
def test_a_config_trains_and_is_validated(name, tmp_path, in_process):
    """Its teacher's weights are an address whose file name ends in the hash that is verified."""
    teacher = Config.fromfile(MIX / f'{name}.py').model.teacher.to_dict()
    weights = resolve_network(teacher, 'teacher').weights
    assert weights.startswith('https://download.openmmlab.com/') and weights[-13] == '-'
    in_cifar, in_mmrazor = name.endswith('cifar100'), name.startswith('single')
    side = 32 if in_cifar else 224 if 'swin' in name else 64  # Swin's windows need their 224
    child = write_child(tmp_path / f'my_{name}.py', f'mmkd_atsc::mix/{name}.py', side, 100 if in_cifar else 1000,
                        MMRAZOR_RANDOM_TEACHER if in_mmrazor else RANDOM_TEACHER)
    log = train(child, tmp_path / 'work')
    assert TERMS[name] <= log.keys(), sorted(log)
    assert all(math.isfinite(log[term]) for term in {'loss', *TERMS[name]})
    assert log['loss'] == pytest.approx(sum(v for k, v in log.items() if k.rpartition('.')[2].startswith('loss_') or
                                            k in ('student.loss', 'teacher.loss')), rel=1e-4)
    assert ('accuracy/top1' if in_mmrazor else 'student/accuracy/top1') in log, sorted(log)
    assert (tmp_path / 'work' / 'epoch_1.pth').is_file()


# MMRazor's own, and whether they run.
STOCK = Path(mmrazor.__file__).parent / '.mim' / 'configs' / 'distill' / 'mmcls'
STOCK_TABLE = dict(re.findall(r'^\| `(\w+/[\w-]+)` \| (\w+)', (ROOT / 'configs/mix/README.md').read_text(), flags=re.M))
# In place of downloaded weights, and of those that an earlier training leaves.
NO_WEIGHTS = 'model = dict(teacher=dict(pretrained=False), teacher_ckpt=None, init_cfg=None)'
SELF = "model = dict(architecture=dict(data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor')))"
CRD = NO_WEIGHTS + """
model.update(distiller=dict(distill_losses=dict(loss_crd=dict(neg_num=4))))
custom_imports = dict(imports=['tests.tiny_cifar'])
tiny = dict(type='mmkd_atsc.TinyCIFAR10', _scope_='mmkd_atsc')
loader = dict(batch_size=14, num_workers=0, persistent_workers=False, dataset=dict(neg_num=4, dataset=tiny))
train_dataloader = val_dataloader = loader
train_cfg = dict(max_epochs=1)
param_scheduler = None
"""


def test_the_table_has_every_stock_config():
    """``crd/datasets`` holds a part of a config."""
    assert set(STOCK_TABLE) == {str(path.relative_to(STOCK).with_suffix('')) for path in STOCK.glob('*/*.py')}
    assert set(STOCK_TABLE.values()) == {'yes', 'no', 'GPU'}


@pytest.mark.parametrize('name', [name for name, runs in STOCK_TABLE.items() if runs == 'yes'])
def test_a_stock_config_trains(name, tmp_path, in_process):
    in_cifar = 'cifar' in name
    child = write_child(tmp_path / 'child.py', STOCK / f'{name}.py', 32 if in_cifar else 64,
                        100 if 'cifar100' in name else 10 if in_cifar else 1000,
                        SELF if name.startswith('byot') else NO_WEIGHTS)
    if name.startswith('crd'):  # its own data set chooses negative samples
        child.write_text(f'_base_ = [{str(STOCK / name)!r} + ".py"]\n{CRD}')
    log = train(child, tmp_path / 'work')
    losses = [value for key, value in log.items() if key.startswith('distill.loss')]
    assert math.isfinite(log['loss']) and any(losses) and any(key.endswith('accuracy/top1') for key in log)
