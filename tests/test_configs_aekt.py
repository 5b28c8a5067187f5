"""The configs of AEKT and its baselines: which there are, what they say, and a step of what needs another's weights."""
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.fileio import load
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmpretrain.structures import DataSample
from torch.nn import functional as F

from mmkd_atsc.cifar_networks import CIFAR_NETWORKS
from mmkd_atsc.models.build import resolve_network
from tests.conftest import ROOT

CONFIGS = ROOT / 'configs'
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


def test_the_folders_hold_these_pairs():
    def found(method):
        return {path.stem for path in (CONFIGS / method).glob('*.py')}

    standardized = {f'{pair}_ls_cifar100' for pair in ('resnet32x4_resnet8x4', 'resnet110_resnet32')}
    pairs = {f'{pair}_cifar100' for pair in BETA} | {f'{pair}_imagenet' for pair in IMAGENET}
    assert found('aekt') == pairs | standardized
    assert found('kd') == found('dkd') == {f'{pair}_cifar100' for pair in BASELINES} | standardized


@pytest.mark.parametrize('method, pair', PAIRS)
def test_a_pair_is_what_its_name_says_by_the_protocol(method, pair):
    config = read(method, pair)
    teacher, student = next((name, pair[len(name) + 1:]) for name in sorted(CIFAR_NETWORKS, key=len, reverse=True)
                            if pair.startswith(f'{name}_'))
    for name, built in ((teacher, config.model.teacher), (student, config.model.architecture)):
        assert (built.backbone, built.head.in_channels, built.head.num_classes) == (*CIFAR_NETWORKS[name], 100)
    here = 'mmkd_atsc::weights' if teacher in ('resnet110', 'resnet32x4') else 'work_dirs'
    assert config.model.teacher_ckpt == f'{here}/{teacher}_cifar100'
    rate = 0.01 if student.startswith(('mobilenet', 'shufflenet')) else 0.05
    assert config.optim_wrapper.optimizer == dict(type='SGD', lr=rate, momentum=0.9, weight_decay=5e-4)
    assert config.train_dataloader.batch_size == 64 and config.train_cfg.max_epochs == 240
    assert config.val_cfg.type == 'mmkd_atsc.DistillValLoop'
    lines = (CONFIGS / method / f'{pair}_cifar100.py').read_text().splitlines()
    assert len(lines) <= 10


@pytest.mark.parametrize('pair', BETA)
def test_aekts_settings(pair):
    config = read('aekt', pair)
    assert config.model.distiller == dict(type='mmkd_atsc.AEKTDistiller', tau=4.0, alpha=1.0,
                                          beta=BETA[pair], gamma=1.0, max_pull=None)
    assert config.custom_hooks == [dict(type='mmkd_atsc.DistillWarmupHook', epochs=20)]
    assert config.optim_wrapper.constructor == 'mmkd_atsc.DistillOptimWrapperConstructor'


def logits(num_samples):
    generator = np.random.default_rng(0)
    student, teacher = 3 * generator.normal(size=(2, num_samples, 100))
    return student, teacher, generator.integers(100, size=num_samples)


def softmax(x):
    x = np.exp(x - x.max(1, keepdims=True))
    return x / x.sum(1, keepdims=True)


def dkd(student, teacher, labels, beta, tau=4.0):
    """Decoupled knowledge distillation, the mean over the batch, from its definition."""
    p, q = softmax(student / tau), softmax(teacher / tau)
    total = 0.0
    for i, label in enumerate(labels):
        p_t, q_t = p[i, label], q[i, label]
        p_rest, q_rest = (np.delete(x[i], label) / (1 - x[i, label]) for x in (p, q))
        total += q_t * np.log(q_t / p_t) + (1 - q_t) * np.log((1 - q_t) / (1 - p_t))
        total += beta * (q_rest * np.log(q_rest / p_rest)).sum()
    return tau**2 * total / len(labels)


def mdistillers_dkd(student, teacher, labels, beta, alpha=1.0, temperature=4.0):
    """As mdistiller writes it: the label's logit lowered by 1000, both divergences a mean over the batch."""
    own = F.one_hot(labels, student.size(1)).bool()
    two_student, two_teacher = (
        torch.stack([(p * own).sum(1), (p * ~own).sum(1)], 1) for p in ((x / temperature).softmax(1)
                                                                        for x in (student, teacher)))
    tckd = F.kl_div(two_student.log(), two_teacher, reduction='sum') * temperature**2 / len(labels)
    others_student, others_teacher = (x / temperature - 1000 * own for x in (student, teacher))
    nckd = F.kl_div(others_student.log_softmax(1), others_teacher.softmax(1), reduction='sum')
    return alpha * tckd + beta * nckd * temperature**2 / len(labels)


@pytest.mark.parametrize('pair', BASELINES)
def test_the_dkd_baseline_is_the_mean_over_a_batch_of_any_size(pair):
    config = read('dkd', pair)
    loss = MODELS.build(config.model.distiller.distill_losses.loss_dkd)
    for batch_size in (config.train_dataloader.batch_size, 16):
        student, teacher, labels = logits(batch_size)
        found = loss(*map(torch.from_numpy, (student, teacher, labels)))
        assert found.item() == pytest.approx(dkd(student, teacher, labels, BETA[pair]), rel=1e-6)
        theirs = mdistillers_dkd(*map(torch.from_numpy, (student, teacher, labels)), BETA[pair])
        assert found.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert config.custom_hooks == [dict(type='mmkd_atsc.DistillWarmupHook', epochs=20)]


@pytest.mark.parametrize('pair', BASELINES)
def test_the_kd_baseline_weighs_labels_and_teacher_as_the_literature(pair):
    config = read('kd', pair)
    assert config.model.architecture.head.loss.loss_weight == 0.1
    student, teacher, _ = logits(64)
    found = MODELS.build(config.model.distiller.distill_losses.loss_kd)(torch.from_numpy(student),
                                                                        torch.from_numpy(teacher))
    p, q = softmax(student / 4), softmax(teacher / 4)
    assert found.item() == pytest.approx(0.9 * 16 * (q * np.log(q / p)).sum(1).mean(), rel=1e-6)
    assert 'custom_hooks' not in config  # KD has no warm-up


@pytest.mark.parametrize('pair', IMAGENET)
def test_imagenets_teachers_come_from_the_zoo(pair):
    """As far as it goes without a network: the address of the weights."""
    weights = resolve_network(read('aekt', pair, 'imagenet').model.teacher.to_dict(), 'teacher').weights
    teacher = pair.split('_')[0]
    assert re.fullmatch(rf'https://download\.openmmlab\.com/\S*/{teacher}_8xb32_in1k_\S+\.pth', weights)


@pytest.mark.parametrize('pair', IMAGENET)
def test_imagenets_pairs_take_a_step(pair):
    config = read('aekt', pair, 'imagenet')
    assert config.train_dataloader.batch_size == 32 and config.auto_scale_lr.base_batch_size == 256
    assert config.custom_hooks == [dict(type='mmkd_atsc.DistillWarmupHook', epochs=1)]
    config.model.teacher.pretrained = False
    init_default_scope(config.default_scope)
    torch.manual_seed(0)
    # The runner gives a model the config's data_preprocessor, as it is.
    model = MODELS.build(dict(config.model, allow_random_teacher=True, data_preprocessor=config.data_preprocessor))
    assert model.data_preprocessor.mean[0] > 123 and model.data_preprocessor.to_rgb
    loss = model.distiller.distill_losses['loss_aekt']
    assert (loss.tau, loss.alpha, loss.beta, loss.gamma) == (1.0, 1.0, 0.5, 1.0)
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    assert sorted({group['lr'] for group in optimizer.optimizer.param_groups}) == pytest.approx([0.001, 0.1])
    images = torch.randint(256, (2, 3, 224, 224), dtype=torch.uint8)
    before = model.student.backbone.state_dict()
    before = {key: before[key].clone() for key in before if before[key].dim() == 4}
    log = model.train().train_step(
        dict(inputs=images, data_samples=[DataSample().set_gt_label(label) for label in (7, 999)]), optimizer)
    assert log['loss'].isfinite() and log['distill.loss_aekt'] > 0
    assert all(not torch.equal(value, before[key]) for key, value in model.student.backbone.state_dict().items()
               if key in before)


def test_the_metafile_lists_every_config():
    models = load(CONFIGS / 'aekt' / 'metafile.yml')['Models']
    configs = [path for folder in ('aekt', 'aekt/multi') for path in (CONFIGS / folder).glob('*.py')]
    assert {model['Config'] for model in models} == {str(path.relative_to(CONFIGS.parent)) for path in configs}


def test_the_readme_lists_every_config_with_the_published_figures():
    text = (CONFIGS / 'aekt' / 'README.md').read_text()
    linked = re.findall(r'\]\(([\w./]+\.(?:py|yml|md))\)', text)
    assert all((CONFIGS / 'aekt' / path).is_file() for path in linked)
    assert {path for path in linked if '/' not in path} >= {path.name for path in (CONFIGS / 'aekt').glob('*.py')}
    for method in ('kd', 'dkd'):
        assert {path for path in linked if path.startswith(f'../{method}/')} == {
            f'../{method}/{path.name}' for path in (CONFIGS / method).glob('*.py')}


def readme_configs():
    return re.findall(r'^```python\n(.*?)^```', (CONFIGS / 'aekt' / 'README.md').read_text(), flags=re.M | re.S)


def test_the_readmes_config_with_zoo_networks_builds(tmp_path):
    (tmp_path / 'zoo.py').write_text(readme_configs()[0])
    config = Config.fromfile(tmp_path / 'zoo.py')
    assert resolve_network(config.model.teacher.to_dict(), 'teacher').weights.startswith('https://download.openmmlab')
    config.model.teacher.pretrained = False
    init_default_scope(config.default_scope)
    model = MODELS.build(dict(config.model, allow_random_teacher=True, data_preprocessor=config.data_preprocessor))
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    assert sorted(group['lr'] / config.optim_wrapper.optimizer.lr for group in groups) == pytest.approx([0.01, 1])
    batch = dict(inputs=torch.zeros(2, 3, 32, 32), data_samples=[DataSample().set_gt_label(0) for _ in range(2)])
    losses = model(**model.data_preprocessor(batch, True), mode='loss')
    assert losses['distill.loss_aekt'] > 0 and losses['student.loss'] > 0


def test_the_readmes_change_of_an_mmrazor_config_builds(tmp_path):
    network = dict(cfg_path='mmpretrain::resnet/resnet18_8xb32_in1k.py', pretrained=False)
    model = dict(_scope_='mmrazor', type='SingleTeacherDistill', architecture=network, teacher=network, distiller=dict(
        type='ConfigurableDistiller', distill_losses=dict(loss_dkd=dict(type='DKDLoss', tau=1))))
    (tmp_path / 'my_mmrazor_config.py').write_text(
        f'default_scope = "mmpretrain"\nmodel = {model!r}\noptim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1))\n')
    (tmp_path / 'mine.py').write_text(readme_configs()[1])
    config = Config.fromfile(tmp_path / 'mine.py')
    init_default_scope(config.default_scope)
    algorithm = MODELS.build(config.model)
    assert type(algorithm).__name__ == 'SingleTeacherDistill'
    assert list(algorithm.distiller.distill_losses) == ['loss_aekt']
    groups = build_optim_wrapper(algorithm, config.optim_wrapper).optimizer.param_groups
    assert sorted(group['lr'] for group in groups) == pytest.approx([0.001, 0.1])
