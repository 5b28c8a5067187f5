"""A captured step is the usual step: here with a stand-in for the graph, which calls the captured function again."""
import copy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmpretrain.models import ImageClassifier

from mmkd_atsc.runtime.captured_step import CapturedStep, tensors_of
from mmkd_atsc.runtime.python_state import PythonState
from tests import tiny_cifar  # noqa: F401  registers the data set
from tests.conftest import assert_same_weights, tiny_classifier, weights
from tests.test_runtime.stand_in import StandIn

ORIGINAL_RUN = CapturedStep.run
SHARED = dict(tiny_classifier(4), neck=dict(type='mmkd_atsc.FeatureProjector'),
              head=dict(type='mmkd_atsc.SharedClassifierHead'))


def frozen(distiller):
    return dict(type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), allow_random_teacher=True,
                teacher=tiny_classifier(8), distiller=distiller)


def adaptive(teachers=1, **options):
    teacher = tiny_classifier(8) if teachers == 1 else [tiny_classifier(8)] * teachers
    return dict(type='mmkd_atsc.AdaptiveTeacherDistill', architecture=SHARED, allow_random_teacher=True,
                teacher=teacher, **options)


AEKT = dict(type='mmkd_atsc.AEKTDistiller')
WARMUP = dict(type='mmkd_atsc.DistillWarmupHook', epochs=3)
WINDOW = dict(type='mmkd_atsc.AdaptiveTeacherHook', start=1, stop=3, interval=3)
METHODS = dict(
    plain=(tiny_classifier(4), []),
    aekt=(frozen(AEKT), [WARMUP]),
    simkd=(adaptive(adaptive=False), []),
    atsc=(adaptive(), [WINDOW]),
    atsc_two=(adaptive(2), [WINDOW]),
)
MIXED = dict(type='mmkd_atsc.BatchedDataPreprocessor', num_classes=10, to_onehot=True,
             batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]))


def config_of(method, work_dir, epochs=4, graph=True, hooks=(), **options):
    model, own_hooks = METHODS[method]
    loader = dict(batch_size=16, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True),
                  collate_fn=dict(type='mmkd_atsc.collate_batch'), dataset=dict(type='mmkd_atsc.TinyCIFAR100'))
    default_hooks = dict(
        runtime_info=dict(type='mmkd_atsc.DeferredRuntimeInfoHook'), finite_loss=dict(type='mmkd_atsc.FiniteLossHook'),
        exact_resume=dict(type='mmkd_atsc.ExactResumeHook'), logger=dict(type='LoggerHook', interval=2),
        checkpoint=dict(type='mmkd_atsc.AtomicCheckpointHook', interval=1))
    if graph:
        default_hooks['step_graph'] = dict(type='StandInGraphHook', warmup=2)
    config = dict(
        default_scope='mmpretrain', model=copy.deepcopy(model), train_dataloader=loader, work_dir=str(work_dir),
        data_preprocessor=dict(type='mmkd_atsc.BatchedDataPreprocessor', num_classes=10, mean=[127.5] * 3,
                               std=[64.0] * 3),
        optim_wrapper=dict(type='mmkd_atsc.FastOptimWrapper', constructor='mmkd_atsc.DistillOptimWrapperConstructor',
                           optimizer=dict(type='SGD', lr=0.05, momentum=0.9)),
        param_scheduler=dict(type='CosineAnnealingLR', by_epoch=True, T_max=epochs, convert_to_iter_based=True),
        train_cfg=dict(type='mmkd_atsc.ResumableEpochLoop', max_epochs=epochs), default_hooks=default_hooks,
        custom_hooks=[*own_hooks, *hooks], randomness=dict(seed=0))
    config.update(options)
    return Config(copy.deepcopy(config))


class Watch(Hook):
    """Keeps each step's losses, and whether it was a captured one; calls ``act`` before each step."""

    priority = 'LOWEST'

    def __init__(self, act=None):
        self.act, self.losses, self.kept, self.captured, self.runs = act, [], [], [], []

    def before_train(self, runner):
        runs = self.runs
        CapturedStep.run = lambda self, data: (runs.append(True), ORIGINAL_RUN(self, data))[1]

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.act:
            self.act(runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.captured.append(self.runs.pop() if self.runs else False)
        self.losses.append({name: float(value) for name, value in outputs.items()})
        self.kept.append(outputs['loss'].detach())


def train(config, act=None):
    runner, watch = Runner.from_cfg(config), Watch(act)
    runner.register_hook(watch)
    runner.train()
    return runner, watch


def log_of(work_dir):
    path, = work_dir.glob('*/*.log')
    return path.read_text()


def train_both(method, folder, act=None, **options):
    """A training with usual steps and one with captured ones, which must be the same; the second and its log."""
    usual, expected = train(config_of(method, folder / 'usual', graph=False, **options), act)
    graphed, got = train(config_of(method, folder / 'graphed', **options), act)
    assert got.losses == expected.losses and len(got.losses) == 20
    assert_same_weights(usual.model.state_dict(), graphed.model.state_dict())
    return graphed, got, log_of(folder / 'graphed')


@pytest.mark.parametrize('method', METHODS)
def test_weights_and_losses_are_those_of_the_usual_steps(method, tmp_path, in_process):
    graphed, got, _ = train_both(method, tmp_path, hooks=[dict(type='EMAHook', momentum=0.1)])
    assert_same_weights(*(weights(tmp_path / name / 'epoch_4.pth') for name in ('usual', 'graphed')))  # the averages
    assert 'train_step' not in vars(graphed.model)
    captured = [sum(got.captured[5 * epoch:5 * epoch + 5]) for epoch in range(4)]
    # Two usual steps and the last, smaller batch in the first epoch; and again wherever something changes.
    changes = dict(aekt=(2, 2, 2, 4), atsc=(2, 2, 4, 2), atsc_two=(2, 2, 4, 2))
    assert tuple(captured) == changes.get(method, (2, 4, 4, 4))
    assert [float(loss) for loss in got.kept] == [step['loss'] for step in got.losses]  # no step overwrites another's


def test_a_resumed_run_equals_an_unbroken_one(tmp_path, in_process):
    whole, _ = train(config_of('atsc', tmp_path / 'whole'))
    start = str(tmp_path / 'whole' / 'epoch_2.pth')
    resumed, _ = train(config_of('atsc', tmp_path / 'resumed', resume=True, load_from=start))
    assert_same_weights(whole.model.state_dict(), resumed.model.state_dict())
    entry = torch.load(start, weights_only=True)['exact_resume']
    assert entry['processes'][0]['gradients'] == {}  # a graph's memory is not a gradient that waits


def end_mixup(runner):
    if runner.epoch == 2:
        runner.model.data_preprocessor.batch_augments, runner.model.data_preprocessor.to_onehot = None, False


def test_mixup_that_ends_is_a_batch_of_another_kind(tmp_path, in_process):
    _, got, _ = train_both('aekt', tmp_path, end_mixup, data_preprocessor=MIXED)
    assert any(got.captured[:10]) and any(got.captured[10:])


def raise_weight(runner):
    if runner.iter % 5 == 3:
        runner.model.head.loss_module.loss_weight += 0.5


def switch_loss(runner):  # as MMPretrain's SwitchRecipeHook does
    if runner.iter == 10:
        runner.model.head.loss_module = MODELS.build(dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.2))


@pytest.mark.parametrize('method, act, line, count', [
    ('aekt', None, 'captured anew: distiller.distill_losses.loss_aekt.loss_weight is 0.66', 1),
    ('aekt', None, 'its batch is (6, 3, 32, 32) with gt_label, those that are captured are (16, 3, 32, 32)', 1),
    ('plain', raise_weight, 'captured anew: head.loss_module.loss_weight is', 4),
    ('plain', switch_loss, 'captured anew: a module, an attribute or a hook was added, replaced', 1)])
def test_what_changes_between_steps_counts_and_the_log_says_it(tmp_path, in_process, method, act, line, count):
    _, got, log = train_both(method, tmp_path, act)
    assert log.count(line) == count and any(got.captured[-4:])


def ramp(runner):
    runner.model.head.loss_module.loss_weight += 0.1


def broken(self, function, parameters):
    raise RuntimeError('operation not permitted when stream is capturing\nand more')


def counting(self, *args):
    self.steps = getattr(self, 'steps', 0) + 1
    return LOSS(self, *args)


def drawing(self, *args):
    np.random.rand()
    return LOSS(self, *args)


LOSS = ImageClassifier.loss
ACCUMULATED = dict(type='OptimWrapper', constructor='mmkd_atsc.DistillOptimWrapperConstructor', accumulative_counts=2,
                   optimizer=dict(type='SGD', lr=0.1))


@pytest.mark.parametrize('method, act, patch, options, line', [
    ('plain', ramp, None, {}, 'something changes every few steps: head.loss_module.loss_weight'),
    ('plain', None, (StandIn, '__init__', broken), {}, 'operation not permitted when stream is capturing\n'),
    ('plain', None, (ImageClassifier, 'loss', counting), {}, 'ImageClassifier.steps is 2, it was 1'),
    ('plain', None, (ImageClassifier, 'loss', drawing), {}, "Python's or NumPy's random numbers"),
    ('alternate', None, None, {}, 'AdaptiveTeacherDistill has a train_step of its own'),
    ('aekt', None, None, dict(optim_wrapper=ACCUMULATED), 'gradients are accumulated over several steps')])
def test_what_cannot_be_captured_trains_as_usual_with_one_line(tmp_path, in_process, monkeypatch, method, act, patch,
                                                               options, line):
    monkeypatch.setitem(METHODS, 'alternate', (adaptive(classifier_step='alternate'), []))
    if patch:
        monkeypatch.setattr(*patch)
    _, got, log = train_both(method, tmp_path, act, **options)
    lines = [text for text in log.splitlines(keepends=True) if 'the training step is not captured' in text]
    assert len(lines) == 1 and line in lines[0] and not any(got.captured)


def test_a_nan_under_the_graph_stops_the_run_by_its_name(tmp_path, in_process):
    def spoil(runner):
        if runner.iter == 7:
            runner.model.head.fc.weight.data.fill_(float('nan'))

    with pytest.raises(Exception, match='loss is nan in iteration 8'):
        train(config_of('plain', tmp_path), spoil)


def test_a_batch_that_is_not_images_with_a_label_each_is_not_captured(batch):
    images, samples = batch
    assert tensors_of(dict(inputs=images, data_samples=samples))[0]['gt_label'].tolist() == [0, 3, 9, 1]
    for data in (images, dict(inputs=images), dict(inputs=[*images], data_samples=samples),
                 dict(inputs=images, data_samples=[samples[0].clone().set_gt_label([1, 2]), *samples[1:]]),
                 dict(inputs=images, data_samples=[samples[0].clone().set_gt_score(torch.ones(10)), *samples[1:]])):
        assert tensors_of(data)[0] == {} and tensors_of(data)[1]


@pytest.mark.parametrize('change', [
    lambda module: setattr(module, 'weights', dict(a=0.5)), lambda module: module.pulls.update(a=2.0),
    lambda module: module.levels.append(3), lambda module: setattr(module, 'limit', 2.0),
    lambda module: setattr(module, 'scale', np.float64(2)), lambda module: setattr(module, 'new', 1),
    lambda module: module.register_forward_hook(lambda *args: None), lambda module: setattr(module, 'act', torch.relu),
    lambda module: setattr(module, 'table', torch.zeros(2)), lambda module: setattr(module, 'table', module.table[:1]),
    lambda module: module.layer.bias.requires_grad_(False),
    lambda module: setattr(module.layer.weight, 'data', torch.ones(2, 2))])
def test_attributes_of_any_kind_are_part_of_the_state(change):
    module = torch.nn.Module()
    own = type('Own', (torch.nn.Module, ), {})()
    module.part, own.layer = own, torch.nn.Linear(2, 2)
    own.weights, own.pulls, own.levels, own.limit, own.scale = dict(a=1.0), dict(a=1.0), [1, 2], None, np.float64(1)
    own.act, own.table = torch.tanh, torch.zeros(2)
    state = PythonState(module)
    assert state.changed() is None
    change(own)
    assert state.changed()
