"""A captured step is the usual step: here with a stand-in for the graph, which calls the captured function again."""
import copy
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, MODELS
from mmengine.runner import Runner

from mmkd_atsc.runtime.captured_step import CapturedStep
from mmkd_atsc.runtime.python_state import PythonState
from tests import tiny_cifar  # noqa: F401  registers the data set
from tests.conftest import tiny_classifier
from tests.test_runtime.stand_in import StandIn

ORIGINAL_RUN = CapturedStep.run
LOGITS = dict(type='mmrazor.ModuleOutputs', source='head')
SHARED = dict(tiny_classifier(4), neck=dict(type='mmkd_atsc.FeatureProjector', in_channels=8, out_channels=16),
              head=dict(type='mmkd_atsc.SharedClassifierHead'))
PROJECTORS = {f'teacher{i}': dict(in_channels=8, out_channels=16) for i in range(2)}
TWO = dict(tiny_classifier(4), neck=dict(type='mmkd_atsc.MultiFeatureProjector', projectors=PROJECTORS),
           head=dict(type='mmkd_atsc.MultiClassifierHead'))


def frozen(distiller, teacher=None):
    return dict(type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), allow_random_teacher=True,
                teacher=teacher or tiny_classifier(8), distiller=distiller)


def adaptive(student=SHARED, **options):
    return dict(type='mmkd_atsc.AdaptiveTeacherDistill', architecture=student, teacher=tiny_classifier(8),
                allow_random_teacher=True, **options) | (
                    dict(teacher=[tiny_classifier(8)] * 2) if student is TWO else {})


def by_logits(**loss):
    mapping = dict(preds_S=dict(from_student=True, recorder='logits'), preds_T=dict(from_student=False,
                                                                                    recorder='logits'))
    recorders = dict(logits=LOGITS)
    if loss['type'] == 'mmrazor.DKDLoss':
        recorders = dict(logits=LOGITS, labels=dict(type='mmrazor.ModuleInputs', source='head.loss_module'))
        mapping['gt_labels'] = dict(from_student=True, recorder='labels', data_idx=1)
    return dict(type='mmrazor.ConfigurableDistiller', student_recorders=recorders,
                teacher_recorders=dict(logits=LOGITS), distill_losses=dict(loss_kd=loss),
                loss_forward_mappings=dict(loss_kd=mapping))


AEKT = dict(type='mmkd_atsc.AEKTDistiller', num_classes=10)
WARMUP = dict(type='mmkd_atsc.DistillWarmupHook', epochs=3)
WINDOW = dict(type='mmkd_atsc.AdaptiveTeacherHook', start=1, stop=3, interval=3)
METHODS = dict(
    plain=(tiny_classifier(4), []),
    kd=(frozen(by_logits(type='mmrazor.KLDivergence', tau=4)), [WARMUP]),
    dkd=(frozen(by_logits(type='mmrazor.DKDLoss', tau=4, loss_weight=0.1)), [WARMUP]),
    aekt=(frozen(AEKT), [WARMUP]),
    aekt_two=(frozen(AEKT, [tiny_classifier(8)] * 2), [WARMUP]),
    simkd=(adaptive(adaptive=False), []),
    atsc=(adaptive(), [WINDOW]),
    atsc_two=(adaptive(TWO), [WINDOW]),
)


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


def count_runs():
    """A list to which each captured step that runs adds True."""
    runs: list = []
    CapturedStep.run = lambda self, data: (runs.append(True), ORIGINAL_RUN(self, data))[1]
    return runs


class Watch(Hook):
    """Keeps each step's losses, and whether it was a captured one."""

    priority = 'LOWEST'

    def __init__(self):
        self.losses, self.captured = [], []

    def before_train(self, runner):
        self.runs = count_runs()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.captured.append(self.runs.pop() if self.runs else False)
        self.losses.append({name: float(value) for name, value in outputs.items()})


def train(config, watch=None):
    runner = Runner.from_cfg(config)
    watch = watch or Watch()
    runner.register_hook(watch)
    runner.train()
    return runner, watch


def assert_same(runner, other):
    expected = runner.model.state_dict()
    got = other.model.state_dict()
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=0, atol=0, msg=lambda text, name=name: f'{name}: {text}')


@pytest.mark.parametrize('method', METHODS)
def test_weights_and_losses_are_those_of_the_usual_steps(method, tmp_path, in_process):
    usual, expected = train(config_of(method, tmp_path / 'usual', graph=False))
    graphed, got = train(config_of(method, tmp_path / 'graphed'))
    assert got.losses == expected.losses and len(got.losses) == 20
    assert_same(usual, graphed)
    assert 'train_step' not in vars(graphed.model)
    captured = [sum(got.captured[5 * epoch:5 * epoch + 5]) for epoch in range(4)]
    # Two usual steps and the last, smaller batch in the first epoch; and again wherever something changes.
    changes = dict(kd=(2, 2, 2, 4), dkd=(2, 2, 2, 4), aekt=(2, 2, 2, 4), aekt_two=(2, 2, 2, 4),
                   atsc=(2, 2, 4, 2), atsc_two=(2, 2, 4, 2))
    assert tuple(captured) == changes.get(method, (2, 4, 4, 4))


@pytest.mark.parametrize('method', ['atsc', 'aekt'])
def test_a_resumed_run_equals_an_unbroken_one(method, tmp_path, in_process):
    whole, _ = train(config_of(method, tmp_path / 'whole'))
    resumed, _ = train(config_of(method, tmp_path / 'resumed', resume=True,
                                 load_from=str(tmp_path / 'whole' / 'epoch_2.pth')))
    assert_same(whole, resumed)
    entry = torch.load(tmp_path / 'whole' / 'epoch_2.pth', weights_only=True)['exact_resume']
    assert entry['processes'][0]['gradients'] == {}  # a graph's memory is not a gradient that waits


def test_averaged_weights_are_those_of_the_usual_steps(tmp_path, in_process):
    hooks = [dict(type='EMAHook', momentum=0.1)]
    runners = [train(config_of('atsc', tmp_path / str(graph), graph=graph, hooks=hooks))[0] for graph in (False, True)]
    for other in runners[1:]:
        assert_same(runners[0], other)
    averaged = [torch.load(tmp_path / str(graph) / 'epoch_4.pth', weights_only=True)['ema_state_dict']
                for graph in (False, True)]
    assert all(torch.equal(averaged[0][name], averaged[1][name]) for name in averaged[0])


def test_mixed_images_are_captured_too(tmp_path, in_process):
    preprocessor = dict(type='mmkd_atsc.BatchedDataPreprocessor', num_classes=10, to_onehot=True,
                        batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]))
    usual, expected = train(config_of('aekt', tmp_path / 'a', graph=False, data_preprocessor=preprocessor))
    graphed, got = train(config_of('aekt', tmp_path / 'b', data_preprocessor=preprocessor))
    assert got.losses == expected.losses and sum(got.captured) == 10
    assert_same(usual, graphed)


def log_of(work_dir):
    path, = work_dir.glob('*/*.log')
    return path.read_text()


def test_the_log_says_what_made_the_step_new(tmp_path, in_process):
    train(config_of('aekt', tmp_path))
    text = log_of(tmp_path)
    assert 'captured anew: distiller.distill_losses.loss_aekt.loss_weight is 0.66' in text
    assert text.count('its batch is (6, 3, 32, 32) with gt_label, those that are captured are (16, 3, 32, 32)') == 1


@HOOKS.register_module(force=True)
class EveryThird(Hook):
    """Changes a number that a loss reads, in the middle of an epoch."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if batch_idx == 3:
            runner.model.head.loss_module.loss_weight += 0.5


def test_a_number_that_a_hook_changes_between_steps_counts(tmp_path, in_process):
    hooks = [dict(type='EveryThird')]
    _, expected = train(config_of('plain', tmp_path / 'a', graph=False, hooks=hooks))
    _, got = train(config_of('plain', tmp_path / 'b', hooks=hooks))
    assert got.losses == expected.losses and any(got.captured)
    assert log_of(tmp_path / 'b').count('captured anew: head.loss_module.loss_weight is') == 4


def test_what_changes_in_every_step_is_given_up_with_one_line(tmp_path, in_process):
    class Ramp(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            runner.model.head.loss_module.loss_weight += 0.1

    runner, watch = Runner.from_cfg(config_of('plain', tmp_path)), Watch()
    runner.register_hook(Ramp())
    runner.register_hook(watch)
    runner.train()
    text = log_of(tmp_path)
    assert text.count('something changes every few steps: head.loss_module.loss_weight') == 1
    assert not any(watch.captured)


def test_mixup_that_ends_is_a_batch_of_another_kind(tmp_path, in_process):
    class EndMixup(Hook):
        def before_train_epoch(self, runner):
            if runner.epoch == 2:
                runner.model.data_preprocessor.batch_augments, runner.model.data_preprocessor.to_onehot = None, False

    preprocessor = dict(type='mmkd_atsc.BatchedDataPreprocessor', num_classes=10, to_onehot=True,
                        batch_augments=dict(augments=[dict(type='Mixup', alpha=0.8)]))
    losses = []
    for graph in (False, True):
        config = config_of('aekt', tmp_path / str(graph), graph=graph, data_preprocessor=preprocessor)
        runner, watch = Runner.from_cfg(config), Watch()
        runner.register_hook(EndMixup())
        runner.register_hook(watch)
        runner.train()
        losses.append(watch.losses)
    assert losses[0] == losses[1] and any(watch.captured[:10]) and any(watch.captured[10:])


def test_a_step_that_cannot_be_captured_trains_as_usual(tmp_path, in_process, monkeypatch):
    def broken(self, function, parameters):
        function()
        raise RuntimeError('operation not permitted when stream is capturing\nand more')

    _, expected = train(config_of('plain', tmp_path / 'a', graph=False))
    monkeypatch.setattr(StandIn, '__init__', broken)
    _, got = train(config_of('plain', tmp_path / 'b'))
    assert got.losses == expected.losses and not any(got.captured)
    assert log_of(tmp_path / 'b').count('not captured: operation not permitted when stream is capturing') == 1


def test_what_a_hook_keeps_of_a_step_stays(tmp_path, in_process):
    class Keep(Hook):
        kept = []

        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            self.kept.append(outputs['loss'])

    runner, watch = Runner.from_cfg(config_of('plain', tmp_path)), Watch()
    runner.register_hook(Keep())
    runner.register_hook(watch)
    runner.train()
    assert [float(loss.detach()) for loss in Keep.kept] == [step['loss'] for step in watch.losses]


def test_a_loss_that_a_hook_replaces_counts(tmp_path, in_process):
    """As MMPretrain's SwitchRecipeHook does."""
    class Switch(Hook):
        def before_train_epoch(self, runner):
            if runner.epoch == 2:
                smooth = dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.2)
                runner.model.head.loss_module = MODELS.build(smooth)

    losses = []
    for graph in (False, True):
        runner, watch = Runner.from_cfg(config_of('plain', tmp_path / str(graph), graph=graph)), Watch()
        runner.register_hook(Switch())
        runner.register_hook(watch)
        runner.train()
        losses.append(watch.losses)
    assert losses[0] == losses[1] and watch.captured[-2]
    assert 'a module, an attribute or a hook was added, replaced' in log_of(tmp_path / 'True')


@pytest.mark.parametrize('options, words', [
    (dict(optim_wrapper=dict(type='OptimWrapper', constructor='mmkd_atsc.DistillOptimWrapperConstructor',
                             accumulative_counts=2, optimizer=dict(type='SGD', lr=0.1))),
     'gradients are accumulated over several steps'),
    (dict(default_hooks=dict(step_graph=dict(type='mmkd_atsc.StepGraphHook'), checkpoint=None)), 'there is no GPU'),
])
def test_what_is_not_captured_is_said_in_one_line(tmp_path, in_process, options, words):
    _, watch = train(config_of('aekt', tmp_path, epochs=1, **options))
    lines = [line for line in log_of(tmp_path).splitlines() if 'is not captured' in line]
    assert len(lines) == 1 and words in lines[0] and not any(watch.captured)


def test_two_optimizer_steps_are_not_one_graph(tmp_path, in_process, monkeypatch):
    monkeypatch.setitem(METHODS, 'alternate', (adaptive(classifier_step='alternate'), []))
    _, watch = train(config_of('alternate', tmp_path, epochs=1))
    assert 'AdaptiveTeacherDistill has a train_step of its own' in log_of(tmp_path) and not any(watch.captured)


def test_a_model_that_counts_its_steps_is_not_captured(tmp_path, in_process, monkeypatch):
    from mmpretrain.models import ImageClassifier
    loss = ImageClassifier.loss

    def counting(self, *args):
        self.steps = getattr(self, 'steps', 0) + 1
        return loss(self, *args)

    monkeypatch.setattr(ImageClassifier, 'loss', counting)
    _, watch = train(config_of('plain', tmp_path, epochs=1))
    assert re.search(r'not captured.*ImageClassifier.steps is 2, it was 1', log_of(tmp_path))
    assert not any(watch.captured)


def test_a_nan_under_the_graph_stops_the_run_by_its_name(tmp_path, in_process):
    class Spoil(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 7:
                runner.model.head.fc.weight.data.fill_(float('nan'))

    runner = Runner.from_cfg(config_of('plain', tmp_path))
    runner.register_hook(Spoil())
    with pytest.raises(Exception, match='loss is nan in iteration 8'):
        runner.train()


@pytest.mark.parametrize('change', [
    lambda module: setattr(module, 'weights', dict(a=0.5)), lambda module: module.pulls.update(a=2.0),
    lambda module: module.levels.append(3), lambda module: setattr(module, 'limit', 2.0),
    lambda module: setattr(module, 'scale', np.float64(2)), lambda module: setattr(module, 'new', 1),
    lambda module: module.register_forward_hook(lambda *args: None), lambda module: setattr(module, 'act', torch.relu),
    lambda module: setattr(module, 'table', torch.zeros(2))])
def test_attributes_of_any_kind_are_part_of_the_state(change):
    module = torch.nn.Module()
    own = type('Own', (torch.nn.Module, ), {})()
    module.part = own
    own.weights, own.pulls, own.levels, own.limit, own.scale = dict(a=1.0), dict(a=1.0), [1, 2], None, np.float64(1)
    own.act, own.table = torch.tanh, torch.zeros(2)
    state = PythonState(module)
    assert state.changed() is None
    change(own)
    assert state.changed()


def test_what_a_forward_leaves_behind_is_a_result_wherever_it_lies():
    module = type('Own', (torch.nn.Module, ), {})()
    module.terms, module.last, module.levels = dict(a=torch.zeros(2)), torch.zeros(2), [1]
    state = PythonState(module)
    module.terms, module.last = dict(a=module.terms['a']), module.last.view(2)  # the same memory
    assert state.changed_by_forward() is None
    module.terms, module.last = dict(a=torch.ones(2)), torch.ones(2)
    assert state.changed() is None
    module.levels.append(2)
    assert state.changed() == 'Own.levels is another'


def test_which_parameters_learn_is_part_of_the_state():
    layer = torch.nn.Linear(2, 2)
    state = PythonState(layer)
    assert state.changed() is None
    layer.bias.requires_grad_(False)
    assert state.changed() == '1 parameters learn, it were 2'
    layer.bias.requires_grad_(True)
    layer.weight.data = layer.weight.data.clone()
    assert state.changed() == 'tensors of the model lie elsewhere'
