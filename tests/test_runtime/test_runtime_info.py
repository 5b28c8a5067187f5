"""No step waits for the GPU, and the log is what it was."""
import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

import mmkd_atsc
from analysis.runs import read_environment
from mmkd_atsc.runtime import DeferredRuntimeInfoHook, FiniteLossHook
from mmkd_atsc.runtime.step_terms import MOST_STEPS, losses_are_due
from tests.conftest import ROOT, tiny_classifier
from tests.test_runtime.test_step_graph import SHARED, config_of, train
from tests.test_runtime.toy_training import OURS, Toy, batches, checkpoint_of, scalar_lines, toy_runner

THEIRS = dict(checkpoint=dict(type='CheckpointHook', interval=1))
WINDOWS = dict(window_size=3, custom_cfg=[
    dict(data_src='loss', log_name='loss_global', method_name='max', window_size='global'),
    dict(data_src='grad_norm', log_name='norm_of_5', method_name='mean', window_size=5)])
EPOCH = dict(data_src='loss_sometimes', log_name='sometimes_epoch', method_name='mean', window_size='epoch')
pytestmark = pytest.mark.usefixtures('in_process')


def histories(path):
    """What the message hub in a checkpoint remembers of each step."""
    scalars = checkpoint_of(path)['message_hub']['log_scalars']
    return {name: buffer.data for name, buffer in scalars.items() if 'time' not in name}


@pytest.mark.parametrize('by_epoch', [True, False])
def test_lines_and_checkpoints_are_those_of_mmengines_hook(tmp_path, by_epoch):
    cfg = dict(by_epoch=True, max_epochs=2) if by_epoch else dict(by_epoch=False, max_iters=10, val_interval=5)
    windows = dict(WINDOWS, by_epoch=by_epoch, custom_cfg=WINDOWS['custom_cfg'] + [EPOCH] * by_epoch)
    for name, hooks in dict(ours=OURS, theirs=THEIRS).items():
        checkpoint = dict(hooks['checkpoint'], by_epoch=by_epoch, interval=1 if by_epoch else 3)
        toy_runner(tmp_path / name, batches(), cfg, dict(hooks, checkpoint=checkpoint), validate=True,
                   wrapper=dict(accumulative_counts=2, clip_grad=dict(max_norm=0.05)),
                   log_processor=dict(type='LogProcessor', **windows)).train()
    lines = scalar_lines(tmp_path / 'theirs')
    assert len(lines) == (6 if by_epoch else 4) and {'grad_norm', 'loss_global', 'norm_of_5'} <= dict(lines[0]).keys()
    assert scalar_lines(tmp_path / 'ours') == lines
    saved = sorted(path.name for path in (tmp_path / 'theirs').glob('*.pth'))
    assert len(saved) == (2 if by_epoch else 4)
    for name in saved:
        theirs, ours = histories(tmp_path / 'theirs' / name), histories(tmp_path / 'ours' / name)
        assert list(ours) == list(theirs)
        for key, (values, counts) in theirs.items():
            np.testing.assert_array_equal(ours[key][0], values, err_msg=key)
            np.testing.assert_array_equal(ours[key][1], counts, err_msg=key)


@pytest.mark.parametrize('base', ['runtime', 'distill'])
def test_a_line_has_means_over_one_window_and_its_terms_add_up(tmp_path, base):
    config = Config.fromfile(ROOT / 'configs' / '_base_' / f'{base}.py')
    processor = dict(config.get('distill', config).log_processor, window_size=2)
    config = config_of('aekt', tmp_path, epochs=2, graph=False, custom_hooks=[], log_processor=processor)
    config.model.architecture.head.cal_acc = True
    config.update(val_dataloader=config.train_dataloader, val_cfg=dict(type='mmkd_atsc.DistillValLoop'),
                  val_evaluator=dict(type='Accuracy'))
    runner, watch = train(config)
    lines = [dict(line) for line in scalar_lines(tmp_path)]
    lines, scores = ([line for line in lines if (key in line)] for key in ('loss', 'student/accuracy/top1'))
    assert len(lines) == 4 and {'distill.accuracy_before_fc', 'student.accuracy_top-1'} <= lines[0].keys()
    loss = runner.model.distiller.distill_losses['loss_aekt']
    for line in lines:
        steps = watch.losses[line['iter'] - 2:line['iter']]
        for name in steps[0]:
            assert line[name] == pytest.approx(sum(step[name] for step in steps) / 2, rel=1e-5), name
        assert line['loss'] == pytest.approx(line['student.loss'] + line['distill.loss_aekt'], rel=1e-5)
        terms = line['distill.tckd'] + loss.beta * line['distill.nckd'] + loss.gamma * line['distill.target']
        assert line['distill.loss_aekt'] == pytest.approx(loss.tau ** 2 * terms, rel=1e-4)
    measured, _ = runner.message_hub.get_scalar('val/student/accuracy/top1').data
    assert [line['student/accuracy/top1'] for line in scores] == measured.tolist()


class Unread:
    """A runner of which nothing is read for the next hundred steps."""

    def __init__(self, model, optim_wrapper):
        self.model, self.optim_wrapper, self.hooks = model, optim_wrapper, []
        self.cfg, self.epoch, self.iter, self.max_epochs, self.max_iters = {}, 0, 0, 1, 1000
        self.train_dataloader = type('Loader', (list, ), dict(dataset=None))([None] * 1000)
        self.message_hub = MessageHub.get_instance(f'unread{id(self)}')

    def step(self, data, hooks):
        for hook in hooks:
            hook.before_train_iter(self, self.iter, data)
        outputs = self.model.train_step(data, self.optim_wrapper)
        for name in [*outputs, 'grad_norm'] if self.iter == 0 else ():  # as if the first line had been logged
            self.message_hub.update_scalar(f'train/{name}', 0.0)
        for hook in hooks:
            hook.after_train_iter(self, self.iter, data, outputs)
        self.iter += 1


def on_meta(name, checkpoint):
    """A model and its data on a device where ``.item()``, ``bool()``, ``.cpu()``, ``nonzero()`` are errors."""
    common = dict(teacher=tiny_classifier(8), teacher_ckpt=checkpoint)
    aekt = dict(type='mmkd_atsc.AEKTDistiller', fc_lr_mult=1.0)  # all in one group
    models = dict(aekt=dict(type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), distiller=aekt),
                  atsc=dict(type='mmkd_atsc.AdaptiveTeacherDistill', architecture=SHARED, teacher_lr_mult=1.0))
    images = torch.zeros(4, 3, 32, 32, device='meta')
    samples = [DataSample().set_gt_label(torch.zeros(1, dtype=torch.long, device='meta')) for _ in range(4)]
    model = MODELS.build(dict(models[name], **common)).train().to('meta')
    if name == 'atsc':  # a first step has measured the teacher's features
        model.distiller.variances._known.add('teacher')
    return model, dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize('method', ['aekt', 'atsc'])
def test_a_step_waits_for_nothing(teacher_checkpoint, method):
    from mmengine.optim import OptimWrapper
    model, data = on_meta(method, teacher_checkpoint)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    wrapper = OptimWrapper(torch.optim.SGD(parameters, lr=0.1, momentum=0.9), clip_grad=dict(max_norm=1.0))
    runner = Unread(model, wrapper)
    hooks = [DeferredRuntimeInfoHook(), FiniteLossHook()]
    for hook in hooks:
        hook.before_train(runner)
    for _ in range(3):
        runner.step(data, hooks)
    assert len(hooks[0]._terms) == len(hooks[1]._losses) == 3
    with pytest.raises((RuntimeError, NotImplementedError), match='meta'):  # who reads, waits
        hooks[0].update_hub(runner)
    with pytest.raises((RuntimeError, NotImplementedError), match='meta'):  # and MMEngine's hook reads each step
        runner.step(data, [RuntimeInfoHook()])


def test_what_waits_is_bounded():
    runner = Unread(Toy(), None)
    runner.max_iters = 10 ** 6
    runner.iter = MOST_STEPS - 2
    assert not losses_are_due(runner, 5)
    runner.iter += 1
    assert losses_are_due(runner, 5)
    runner.iter += 1
    assert not losses_are_due(runner, 5)
    runner.cfg = dict(compile=dict(mode='reduce-overhead'))  # whose next step overwrites the losses
    assert losses_are_due(runner, 5)


def test_the_log_says_what_ran_so_that_the_summary_can(tmp_path):
    toy_runner(tmp_path, batches()).train()
    environment = read_environment(tmp_path)
    assert environment['mmkd_atsc'] == mmkd_atsc.__version__ and environment['threads'] == torch.get_num_threads()
    assert environment['mmengine'] == mmengine.__version__
