"""The weight of distillation losses over the first epochs, whatever else happens to the run."""
from types import SimpleNamespace

import pytest
from mmengine.runner import IterBasedTrainLoop
from torch import nn

from mmkd_atsc.engine import DistillWarmupHook


class Loss(nn.Module):
    def __init__(self, weight=None):
        super().__init__()
        if weight is not None:
            self.loss_weight = weight


def toy_runner(**losses):
    model = nn.Module()
    model.distiller = nn.Module()
    model.distiller.distill_losses = nn.ModuleDict(losses)
    return SimpleNamespace(model=model, epoch=0, iter=0, max_epochs=12, max_iters=12)


def weights_over(hook, runner, steps):
    losses, found = runner.model.distiller.distill_losses, []
    for runner.epoch in steps:
        runner.iter = runner.epoch
        hook.before_train_epoch(runner) if hook.by_epoch else hook.before_train_iter(runner, 0)
        found.append(tuple(loss.loss_weight for loss in losses.values()))
    return found


@pytest.mark.parametrize('by_epoch', [True, False])
def test_each_epoch_or_iteration_has_its_share_of_the_weight(by_epoch):
    runner = toy_runner(kd=Loss(2.0), feature=Loss(3.0))
    for _ in range(2):  # a second run with the same model
        hook = DistillWarmupHook(epochs=4, losses=['kd'], by_epoch=by_epoch)
        hook.before_run(runner)  # before a checkpoint is read: the epoch is still 0
        assert weights_over(hook, runner, range(5)) == [(0.5, 3.0), (1.0, 3.0), (1.5, 3.0), (2.0, 3.0), (2.0, 3.0)]
        assert weights_over(hook, runner, [1]) == [(1.0, 3.0)], 'it depends on the epoch alone'
        hook.after_train(runner)
        assert runner.model.distiller.distill_losses['kd'].loss_weight == 2.0


def test_epochs_are_refused_where_training_counts_iterations():
    runner = SimpleNamespace(train_loop=IterBasedTrainLoop.__new__(IterBasedTrainLoop))
    DistillWarmupHook(epochs=4, by_epoch=False).before_train(runner)
    with pytest.raises(ValueError, match='DistillWarmupHook counts epochs; .* set by_epoch=False and give iterations'):
        DistillWarmupHook(epochs=4).before_train(runner)


@pytest.mark.parametrize('steps, length', [(94, 47), (1, 1), (3000, 500), (187_680, 15_640)])
def test_by_default_it_takes_a_twelfth_of_the_training_and_more_of_a_short_one(steps, length):
    runner, hook = toy_runner(kd=Loss(2.0)), DistillWarmupHook()
    runner.max_iters, runner.train_loop = steps, None
    hook.before_run(runner)
    hook.before_train(runner)
    factors = [hook.factor(done) for done in range(length)]
    assert hook.epochs == length and factors == sorted(factors) and factors[-1] == 1
    assert len(set(factors)) == min(length, 10) and factors[0] == pytest.approx(0.1 if length > 1 else 1)
    runner.iter = length // 2 - 1
    hook.before_train_iter(runner, 0)
    assert runner.model.distiller.distill_losses['kd'].loss_weight == 2 * hook.factor(runner.iter)


def test_mmrazors_own_losses_can_be_warmed_up():
    from mmrazor.models import KLDivergence
    runner, hook = toy_runner(kd=KLDivergence(tau=1, loss_weight=8.0)), DistillWarmupHook(epochs=4)
    hook.before_run(runner)
    assert weights_over(hook, runner, [0, 3]) == [(2.0, ), (8.0, )]


@pytest.mark.parametrize('losses, words', [
    (['kdd'], "losses='kdd' is not one of 'kd', 'bare'; did you mean 'kd'"),
    (['bare'], r'bare \(Loss\) has no loss_weight to warm up'),
    (None, r'bare \(Loss\) has no loss_weight'),
])
def test_losses_that_cannot_be_warmed_up_are_named(losses, words):
    with pytest.raises(ValueError, match=words):
        DistillWarmupHook(losses=losses).before_run(toy_runner(kd=Loss(1.0), bare=Loss()))


def test_a_model_without_distiller_is_refused():
    with pytest.raises(ValueError, match='Linear has no distiller'):
        DistillWarmupHook().before_run(SimpleNamespace(model=nn.Linear(1, 1)))
