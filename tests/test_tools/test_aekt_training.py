"""AEKT through the entry points: trained, warmed up, resumed, in two processes; and once on the real CIFAR-100."""
import json
import math
from itertools import cycle, islice

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed

from tests.conftest import (
    ROOT,
    TINY_TRAINING,
    assert_one_line_error,
    needs_cifar100,
    run_command,
    run_tool,
    tiny_classifier,
)

AEKT = TINY_TRAINING + """
model = dict(
    type='mmkd_atsc.MultiTeacherDistill', architecture=model, teacher=TEACHER, teacher_ckpt=CHECKPOINT,
    distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=10, beta=2.0, fc_lr_mult=0.1))
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=3)]
log_processor = dict(window_size=1)
default_hooks.update(logger=dict(type='LoggerHook', interval=1))
train_cfg.update(max_epochs=4)
val_cfg = dict(type='mmkd_atsc.DistillValLoop')
test_cfg = dict(type='mmkd_atsc.DistillTestLoop')
"""

MMRAZOR = AEKT + """
answers = dict(preds_S=dict(from_student=True, recorder='logits'), preds_T=dict(from_student=False, recorder='logits'))
model.update(distiller=dict(
    type='mmrazor.ConfigurableDistiller',
    student_recorders=dict(logits=dict(type='ModuleOutputs', source='head'),
                           labels=dict(type='ModuleInputs', source='head.loss_module')),
    teacher_recorders=dict(logits=dict(type='ModuleOutputs', source='head')),
    distill_losses=dict(loss_kd=dict(type='mmrazor.KLDivergence', tau=4, loss_weight=0.9),
                        loss_dkd=dict(type='mmrazor.DKDLoss', tau=4, beta=2.0, reduction='sum', loss_weight=1 / 100)),
    loss_forward_mappings=dict(
        loss_kd=answers, loss_dkd=dict(gt_labels=dict(from_student=True, recorder='labels', data_idx=1), **answers))))
custom_hooks = [dict(type='mmkd_atsc.DistillWarmupHook', epochs=3, losses=['loss_dkd'])]
# One batch of all images, and nothing learns: from epoch to epoch only the weight can change a loss.
train_dataloader.update(batch_size=100)
optim_wrapper.update(optimizer=dict(type='SGD', lr=0.0))
val_cfg = val_dataloader = val_evaluator = None
"""


@pytest.fixture
def write_config(tmp_path, teacher_checkpoint):
    def write(text):
        path = tmp_path / 'config.py'
        path.write_text(f'TEACHER = {tiny_classifier(8)!r}\nCHECKPOINT = {teacher_checkpoint!r}\n{text}')
        return path
    return write


def weights(path):
    return torch.load(path, weights_only=True)['state_dict']


def steps(work_dir):
    """The logged training steps, in order."""
    lines = [json.loads(line) for file in sorted(work_dir.glob('*/vis_data/scalars.json')) for line in file.open()]
    return [line for line in lines if 'loss' in line]


def test_train_warm_up_and_resume(write_config, tmp_path):
    config, whole, rest = write_config(AEKT), tmp_path / 'whole', tmp_path / 'rest'
    done = run_tool('train.py', config, '--work-dir', whole)
    assert done.returncode == 0, done.stderr
    assert 'student/accuracy/top1' in done.stdout

    logged = steps(whole)
    assert len(logged) == 16  # four steps in each of four epochs
    for line in logged:
        terms = {name[len('distill.'):]: value for name, value in line.items() if name.startswith('distill.')}
        full = 16 * (terms['tckd'] + 2 * terms['nckd'] + terms['target'])
        assert terms['loss_aekt'] / full == pytest.approx(min(line['epoch'] / 3, 1), rel=1e-4)
        assert line['loss'] == pytest.approx(line['student.loss'] + terms['loss_aekt'], rel=1e-4)
        assert {'ratio', 'student_confidence', 'teacher_confidence', 'accuracy_before_fc',
                'accuracy_after_fc'} <= terms.keys()

    # Resumed in the middle of the warm-up, the run ends with the weights of the unbroken one.
    done = run_tool('train.py', config, '--work-dir', rest, '--resume', whole / 'epoch_2.pth')
    assert done.returncode == 0, done.stderr
    assert [line['epoch'] for line in steps(rest)] == [3] * 4 + [4] * 4
    unbroken, resumed = weights(whole / 'epoch_4.pth'), weights(rest / 'epoch_4.pth')
    assert unbroken.keys() == resumed.keys()
    assert all(torch.equal(value, resumed[key]) for key, value in unbroken.items())

    layer = 'distiller.connectors.fc.fc.weight'
    assert not torch.equal(unbroken[layer], torch.eye(10)) and (unbroken[layer] - torch.eye(10)).abs().max() < 0.5
    assert not torch.equal(unbroken[layer], weights(whole / 'epoch_2.pth')[layer])


def test_two_processes_train_the_layer_together(write_config, tmp_path):
    config, work_dir = write_config(AEKT), tmp_path / 'dist'
    done = run_command(ROOT / 'tools' / 'dist_train.sh', config, 2, '--work-dir', work_dir, '--cfg-options',
                       'train_cfg.max_epochs=1')
    assert done.returncode == 0, done.stderr
    assert not torch.equal(weights(work_dir / 'epoch_1.pth')['distiller.connectors.fc.fc.weight'], torch.eye(10))
    assert 'distill.loss_aekt' in steps(work_dir)[-1]


def test_mmrazors_losses_come_in_slowly_too(write_config, tmp_path):
    done = run_tool('train.py', write_config(MMRAZOR), '--work-dir', tmp_path / 'w')
    assert done.returncode == 0, done.stderr
    logged = steps(tmp_path / 'w')
    assert [line['epoch'] for line in logged] == [1, 2, 3, 4]
    full = logged[-1]['distill.loss_dkd']
    assert full > 0
    for line, share in zip(logged, (1 / 3, 2 / 3, 1, 1)):
        assert line['distill.loss_dkd'] == pytest.approx(share * full, rel=1e-3)
        assert line['distill.loss_kd'] == pytest.approx(logged[-1]['distill.loss_kd'], rel=1e-3)  # not named


def test_a_wrong_option_is_named_in_one_line(write_config, tmp_path):
    done = run_tool('train.py', write_config(AEKT), '--work-dir', tmp_path / 'w', '--cfg-options',
                    'model.distiller.gama=1.0')
    assert_one_line_error(done, "AEKTDistiller has no option 'gama'; did you mean 'gamma'?")


@pytest.fixture(scope='module')
def cifar100(tmp_path_factory):
    """Ten batches of the real CIFAR-100, over and over, and a ResNet-8 that knows them: a confident teacher."""
    config = Config.fromfile(ROOT / 'configs' / 'aekt' / 'resnet56_resnet20_cifar100.py')
    init_default_scope('mmpretrain')
    config.train_dataloader.dataset.pipeline = []  # the same images again and again, not augmented anew
    config.model.architecture.backbone.depth = config.model.teacher.backbone.depth = 8
    set_random_seed(0)
    batches = list(islice(Runner.build_dataloader(config.train_dataloader, seed=0), 10))
    teacher = MODELS.build(dict(config.model.teacher, data_preprocessor=dict(config.data_preprocessor)))
    fit(teacher, batches, 250, 0.1)
    for parameter in teacher.head.parameters():
        parameter.data.mul_(2)  # surer of its answers, as one after a full schedule is
    checkpoint = tmp_path_factory.mktemp('teacher') / 'teacher.pth'
    torch.save(dict(state_dict=teacher.state_dict()), checkpoint)
    config.model.teacher_ckpt = str(checkpoint)
    return config, batches


def fit(model, batches, steps, rate):
    """Trains by the protocol's optimizer; what each step logged."""
    optimizer = build_optim_wrapper(model, dict(
        constructor='mmkd_atsc.DistillOptimWrapperConstructor',
        optimizer=dict(type='SGD', lr=rate, momentum=0.9, weight_decay=5e-4)))
    model.train()
    return [{name: value.item() for name, value in model.train_step(batch, optimizer).items()}
            for batch in islice(cycle(batches), steps)]


def distil(cifar100, steps, **options):
    """A fresh student at the learning rate 0.1, without warm-up."""
    config, batches = cifar100
    torch.manual_seed(1)
    model = MODELS.build(dict(
        config.model, distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=100, **options),
        data_preprocessor=config.data_preprocessor))
    return fit(model, batches, steps, 0.1)


@needs_cifar100
@pytest.mark.slow
def test_the_default_loss_learns_on_the_real_cifar100(cifar100):
    log = distil(cifar100, 200)
    first, last = ({name: sum(line[name] for line in lines) / len(lines) for name in log[0]}
                   for lines in (log[:10], log[-10:]))
    print(first, last, sep='\n')  # shown by -s
    assert first['distill.ratio'] > 10  # the case that the bound is for
    assert all(math.isfinite(value) for line in log for value in line.values())
    assert last['distill.loss_aekt'] < 0.75 * first['distill.loss_aekt']
    assert last['student.loss'] < first['student.loss'] - 1
    assert last['distill.accuracy_before_fc'] > first['distill.accuracy_before_fc'] + 4


@needs_cifar100
@pytest.mark.slow
def test_the_bare_ratio_diverges_as_the_docs_say(cifar100):
    log = distil(cifar100, 100, max_ratio=None)
    print([round(line['loss'], 2) for line in log])
    assert not math.isfinite(log[-1]['loss'])
