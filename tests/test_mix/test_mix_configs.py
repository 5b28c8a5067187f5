"""Every config of configs/mix trains and is validated, inherited by a config of somebody else's, offline."""
import math

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
