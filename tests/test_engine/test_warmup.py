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


def toy_runner(epoch=0, **losses):
    model = nn.Module()
    model.distiller = nn.Module()
    model.distiller.distill_losses = nn.ModuleDict(losses)
    return SimpleNamespace(model=model, epoch=epoch)


def weights_over(hook, runner, epochs):
    found = []
    for runner.epoch in epochs:
        hook.before_train_epoch(runner)
        found.append({name: loss.loss_weight for name, loss in runner.model.distiller.distill_losses.items()})
    return found


def test_each_epoch_has_its_share_of_the_weight():
    runner, hook = toy_runner(kd=Loss(2.0)), DistillWarmupHook(epochs=4)
    hook.before_run(runner)
    assert [weights['kd'] for weights in weights_over(hook, runner, range(6))] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_a_training_by_iterations_counts_them():
    runner, hook = toy_runner(kd=Loss(2.0)), DistillWarmupHook(epochs=4, by_epoch=False)
    hook.before_run(runner)
    found = []
    for runner.iter in range(6):
        hook.before_train_iter(runner, 0)
        found.append(runner.model.distiller.distill_losses['kd'].loss_weight)
    assert found == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    runner.train_loop = IterBasedTrainLoop.__new__(IterBasedTrainLoop)
    hook.before_train(runner)
    with pytest.raises(ValueError, match='DistillWarmupHook counts epochs; .* set by_epoch=False and give iterations'):
        DistillWarmupHook().before_train(runner)


@pytest.mark.parametrize('epochs, length', [(240, 20), (30, 3), (5, 1)])
def test_by_default_it_takes_a_twelfth_of_the_training(epochs, length):
    runner, hook = toy_runner(kd=Loss(2.0)), DistillWarmupHook()
    runner.max_epochs, runner.train_loop = epochs, None
    hook.before_run(runner)
    hook.before_train(runner)
    assert hook.epochs == length and hook.factor(done=length - 1) == 1


def test_it_depends_on_the_epoch_alone_so_a_resumed_run_goes_on():
    whole, resumed = toy_runner(kd=Loss(2.0)), toy_runner(kd=Loss(2.0))
    first, second = DistillWarmupHook(epochs=5), DistillWarmupHook(epochs=5)
    first.before_run(whole)
    second.before_run(resumed)  # before the checkpoint is read: runner.epoch is still 0
    assert weights_over(first, whole, range(6))[3:] == weights_over(second, resumed, range(3, 6))


def test_only_the_named_losses_come_in_slowly_and_the_end_gives_all_back():
    runner, hook = toy_runner(kd=Loss(2.0), feature=Loss(3.0)), DistillWarmupHook(epochs=2, losses=['kd'])
    hook.before_run(runner)
    assert weights_over(hook, runner, [0]) == [dict(kd=1.0, feature=3.0)]
    hook.after_train(runner)
    assert runner.model.distiller.distill_losses['kd'].loss_weight == 2.0


def test_a_run_twice_with_one_model_keeps_the_full_weight():
    runner = toy_runner(kd=Loss(2.0))
    for _ in range(2):
        hook = DistillWarmupHook(epochs=4)
        hook.before_run(runner)
        assert weights_over(hook, runner, [0]) == [dict(kd=0.5)]
        hook.after_train(runner)


def test_mmrazors_own_losses_can_be_warmed_up():
    from mmrazor.models import KLDivergence
    runner, hook = toy_runner(kd=KLDivergence(tau=1, loss_weight=8.0)), DistillWarmupHook(epochs=4)
    hook.before_run(runner)
    assert weights_over(hook, runner, [0, 3]) == [dict(kd=2.0), dict(kd=8.0)]


@pytest.mark.parametrize('losses, words', [
    (['kdd'], "losses='kdd' is not one of 'kd', 'bare'; did you mean 'kd'"),
    (['bare'], r'bare \(Loss\) has no loss_weight to warm up'),
    (None, r'bare \(Loss\) has no loss_weight'),
])
def test_losses_that_cannot_be_warmed_up_are_named(losses, words):
    with pytest.raises(ValueError, match=words):
        DistillWarmupHook(losses=losses).before_run(toy_runner(kd=Loss(1.0), bare=Loss()))


def test_losses_is_a_list_of_names():
    with pytest.raises(TypeError, match="losses='kd' must be a list of names"):
        DistillWarmupHook(losses='kd')


@pytest.mark.parametrize('epochs, error', [(0, ValueError), (2.5, TypeError), ('20', TypeError), (True, TypeError)])
def test_the_length_is_checked(epochs, error):
    with pytest.raises(error, match='epochs=.* must be an integer'):
        DistillWarmupHook(epochs=epochs)


def test_a_model_without_distiller_is_refused():
    with pytest.raises(ValueError, match='Linear has no distiller'):
        DistillWarmupHook().before_run(SimpleNamespace(model=nn.Linear(1, 1), epoch=0))
