"""The configs of AEKT and its baselines: which there are, what they say, and a step of what needs another's weights."""
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch.nn import functional as F

from analysis.cifar_networks import CIFAR_NETWORKS
from mmkd_atsc.models.build import resolve_network
from tests.conftest import ROOT

CONFIGS = ROOT / 'configs'
README = (CONFIGS / 'aekt' / 'README.md').read_text()
README_CONFIGS = re.findall(r'^```python\n(.*?)^```', README, flags=re.M | re.S)
# The pairs on CIFAR-100 with DKD's beta, as its authors chose it for each.
BETA = dict(resnet56_resnet20=2, resnet110_resnet32=2, resnet32x4_resnet8x4=8, wrn_40_2_wrn_16_2=6, wrn_40_2_wrn_40_1=6,
            vgg13_vgg8=6, resnet32x4_shufflenetv1=8, wrn_40_2_shufflenetv1=8, vgg13_mobilenetv2=6,
            resnet50_mobilenetv2=8, resnet32x4_shufflenetv2=8)
IMAGENET = ['resnet34_resnet18', 'resnet50_mobilenetv1']
BASELINES = ['resnet56_resnet20', 'resnet110_resnet32', 'resnet32x4_resnet8x4', 'wrn_40_2_wrn_16_2',
             'wrn_40_2_wrn_40_1', 'vgg13_vgg8', 'resnet32x4_shufflenetv1', 'vgg13_mobilenetv2']
PAIRS = [('aekt', pair) for pair in BETA] + [(method, pair) for method in ('kd', 'dkd') for pair in BASELINES]


def read(method, pair, dataset='cifar100'):
    return Config.fromfile(CONFIGS / method / f'{pair}_{dataset}.py')


@pytest.mark.parametrize('method, pair', PAIRS)
def test_a_pair_is_what_its_name_says_by_the_protocol(method, pair):
    config = read(method, pair)
    teacher, student = next((name, pair[len(name) + 1:]) for name in sorted(CIFAR_NETWORKS, key=len, reverse=True)
                            if pair.startswith(f'{name}_'))
    for name, built in ((teacher, config.model.teacher), (student, config.model.architecture)):
        assert built.backbone == CIFAR_NETWORKS[name]['backbone'] and built.head.num_classes == 100
    here = 'mmkd_atsc::weights' if teacher in ('resnet110', 'resnet32x4') else 'work_dirs/teachers'
    assert config.model.teacher_ckpt == f'{here}/{teacher}_cifar100'
    rate = 0.01 if student.startswith(('mobilenet', 'shufflenet')) else 0.05
    assert config.optim_wrapper.optimizer == dict(type='SGD', lr=rate, momentum=0.9, weight_decay=5e-4)
    assert config.train_dataloader.batch_size == 64 and config.train_cfg.max_epochs == 240
    assert config.val_cfg.type == 'mmkd_atsc.DistillValLoop'
    assert len((CONFIGS / method / f'{pair}_cifar100.py').read_text().splitlines()) <= 10
    assert config.get('custom_hooks') == (  # KD has no warm-up
        None if method == 'kd' else [dict(type='mmkd_atsc.DistillWarmupHook', epochs=20)])
    if method == 'aekt':
        assert config.model.distiller == dict(
            type='mmkd_atsc.AEKTDistiller', tau=4.0, alpha=1.0, beta=BETA[pair], gamma=1.0, max_pull=None)
        assert config.optim_wrapper.constructor == 'mmkd_atsc.DistillOptimWrapperConstructor'


@pytest.fixture(scope='module')
def answers():
    """Logits of student and teacher, as many as a batch has, and labels."""
    torch.manual_seed(0)
    return (*3 * torch.randn(2, 64, 100, dtype=torch.float64), torch.randint(100, (64, )))


def dkd(student, teacher, labels, beta, tau=4.0):
    """As mdistiller writes it: the label's logit lowered by 1000, both divergences a mean over the batch."""
    own = F.one_hot(labels, student.size(1)).bool()
    p, q = ((x / tau).softmax(1) for x in (student, teacher))
    p, q = (torch.stack([(x * own).sum(1), (x * ~own).sum(1)], 1) for x in (p, q))
    tckd = F.kl_div(p.log(), q, reduction='batchmean')
    p, q = (x / tau - 1000 * own for x in (student, teacher))
    return tau**2 * (tckd + beta * F.kl_div(p.log_softmax(1), q.softmax(1), reduction='batchmean'))


@pytest.mark.parametrize('pair', BASELINES)
def test_the_baselines_losses_are_the_literatures(pair, answers):
    """DKD at any batch size; KD weighs the labels 0.1 and the teacher 0.9."""
    loss = MODELS.build(read('dkd', pair).model.distiller.distill_losses.loss_dkd)
    for size in (64, 16):
        some = [part[:size] for part in answers]
        assert loss(*some).item() == pytest.approx(dkd(*some, BETA[pair]).item(), rel=1e-6)
    config = read('kd', pair)
    assert config.model.architecture.head.loss.loss_weight == 0.1
    student, teacher = ((x / 4).log_softmax(1) for x in answers[:2])
    expected = 0.9 * 16 * F.kl_div(student, teacher, reduction='batchmean', log_target=True)
    found = MODELS.build(config.model.distiller.distill_losses.loss_kd)(*answers[:2])
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize('pair', IMAGENET)
def test_imagenets_pairs_take_their_teacher_from_the_zoo(pair):
    config = read('aekt', pair, 'imagenet')
    weights = resolve_network(config.model.teacher.to_dict(), 'teacher').weights
    assert re.fullmatch(rf'https://download\.openmmlab\.com/\S*/{pair.split("_")[0]}_8xb32_in1k_\S+\.pth', weights)
    assert config.train_dataloader.batch_size == 32 and config.auto_scale_lr.base_batch_size == 256
    assert config.model.distiller == dict(type='mmkd_atsc.AEKTDistiller', tau=1.0, beta=0.5, max_pull=None)
    assert config.custom_hooks == [dict(type='mmkd_atsc.DistillWarmupHook', epochs=1)]


def test_the_readme_and_the_metafile_list_every_config():
    models = load(CONFIGS / 'aekt' / 'metafile.yml')['Models']
    configs = [path for folder in ('aekt', 'aekt/multi') for path in (CONFIGS / folder).glob('*.py')]
    assert {model['Config'] for model in models} == {str(path.relative_to(CONFIGS.parent)) for path in configs}
    linked = re.findall(r'\]\(([\w./]+\.py)\)', README)
    assert {path for path in linked if '/' not in path} >= {path.name for path in (CONFIGS / 'aekt').glob('*.py')}
    for method in ('kd', 'dkd'):
        assert {path for path in linked if path.startswith(f'../{method}/')} == {
            f'../{method}/{path.name}' for path in (CONFIGS / method).glob('*.py')}


@pytest.mark.parametrize('page, pair', [('aekt', 'resnet32x4_resnet8x4'), ('atsc', 'resnet110_resnet32')])
def test_a_methods_page_shows_a_config_that_is_there(page, pair):
    block = re.search(r'^```python\n(.*?)^```', (CONFIGS / page / 'README.md').read_text(), flags=re.M | re.S)[1]
    shipped = (CONFIGS / page / f'{pair}_cifar100.py').read_text().replace('{{$MMKD_TEACHERS:mmkd_atsc::weights}}/', '')
    assert re.sub(r'mmkd_atsc::weights/|  #.*', '', block) == shipped


def test_the_readmes_change_of_an_mmrazor_config_builds(tmp_path):
    network = dict(cfg_path='mmpretrain::resnet/resnet18_8xb32_in1k.py', pretrained=False)
    model = dict(_scope_='mmrazor', type='SingleTeacherDistill', architecture=network, teacher=network, distiller=dict(
        type='ConfigurableDistiller', distill_losses=dict(loss_dkd=dict(type='DKDLoss', tau=1))))
    (tmp_path / 'my_mmrazor_config.py').write_text(
        f'default_scope = "mmpretrain"\nmodel = {model!r}\noptim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1))\n')
    (tmp_path / 'mine.py').write_text(README_CONFIGS[1])
    config = Config.fromfile(tmp_path / 'mine.py')
    init_default_scope(config.default_scope)
    algorithm = MODELS.build(config.model)
    assert type(algorithm).__name__ == 'SingleTeacherDistill'
    assert list(algorithm.distiller.distill_losses) == ['loss_aekt']
    groups = build_optim_wrapper(algorithm, config.optim_wrapper).optimizer.param_groups
    assert sorted(group['lr'] for group in groups) == pytest.approx([0.001, 0.1])
