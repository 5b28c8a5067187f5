"""The fast layout of a network gives what the plain one gives."""
import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import MODELS

from mmkd_atsc.runtime.accelerate import AccelerateHook
from mmkd_atsc.runtime.blocks import repeated_blocks
from tests.conftest import tiny_classifier
from tests.test_models.test_algorithms.test_adaptive_teacher_distill import batches, build, optimizer_of


def runner_of(model):
    return SimpleNamespace(model=model, optim_wrapper=None)


def losses_of_steps(model, count=3):
    wrapper, losses = optimizer_of(model), []
    for data, _ in batches(count):
        data['inputs'] = data['inputs'] / 64 - 2
        losses.append({key: float(value) for key, value in model.train_step(data, wrapper).items()})
    return losses


def test_steps_are_the_plain_networks(teacher_checkpoint):
    plain = build(teacher_checkpoint)
    fast = copy.deepcopy(plain)
    AccelerateHook(channels_last=True).before_run(runner_of(fast))
    expected, got = losses_of_steps(plain), losses_of_steps(fast)
    for one, other in zip(expected, got):
        assert other == pytest.approx(one, rel=1e-3, abs=1e-4)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    weight = fast.teacher.backbone.layer1[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    features = fast.student.backbone(torch.randn(2, 3, 32, 32))[-1]
    assert features.is_contiguous(memory_format=torch.channels_last)


def test_blocks_that_a_recorder_listens_to_are_not_compiled():
    network = MODELS.build(tiny_classifier(4)).backbone
    blocks = [block for _, block in repeated_blocks(network)]
    blocks[1].conv1.register_forward_hook(lambda *args: None)
    AccelerateHook(compile='blocks')._compile_blocks('backbone', network)
    assert [block._compiled_call_impl is None for block in blocks] == [False, True, False]
