"""The fast layout gives what the plain one gives; blocks are found by looking, and compiled once a form."""
import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope

from mmkd_atsc.runtime.accelerate import AccelerateHook
from mmkd_atsc.runtime.blocks import BlockCompiler, repeated_blocks
from tests.conftest import tiny_classifier
from tests.test_models.distillation import batches, optimizer_of
from tests.test_models.test_algorithms.test_adaptive_teacher_distill import build

EXPECTED = [
    (dict(type='ResNet', depth=50), 'Bottleneck', 16),
    (dict(type='mmkd_atsc.CIFARResNet', depth=110), 'BasicBlock', 54),
    (dict(type='VisionTransformer', arch='deit-t', img_size=32, patch_size=16), 'TransformerEncoderLayer', 12),
    (dict(type='SwinTransformer', arch='tiny', img_size=64), 'SwinBlock', 12),
    (dict(type='VGG', depth=11), None, 0),
]


@pytest.mark.parametrize('config, kind, count', EXPECTED, ids=[case[0]['type'] + str(case[2]) for case in EXPECTED])
def test_blocks_of_mmpretrain(config, kind, count):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        found = [type(block).__name__ for _, block in repeated_blocks(MODELS.build(config))]
    assert found == [kind] * count


def compiled_network(backend, count=4):
    torch.manual_seed(0)
    network = MODELS.build(dict(type='mmkd_atsc.CIFARResNet', depth=20, widths=(4, 4, 8, 8)))
    plain, compiler = copy.deepcopy(network), BlockCompiler(backend=backend)
    for _, block in repeated_blocks(network):
        compiler.compile(block)
    return network, plain, compiler


def test_equal_blocks_share_a_compilation_and_other_batches_have_none():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    network, plain, compiler = compiled_network(backend)
    images = torch.randn(4, 3, 32, 32)
    compiler.active = True
    torch.testing.assert_close(network(images), plain(images))
    assert len(graphs) == 5  # of nine blocks: three stages, and the first of two of them differs from the rest
    for inactive in (False, True):
        compiler.active = not inactive
        network(torch.randn(4 if inactive else 3, 3, 32, 32))  # validation, or the last batch of an epoch
    compiler.active = False
    with torch.no_grad():
        network.eval()(images)
    assert len(graphs) == 5
    assert network.state_dict().keys() == plain.state_dict().keys()


def test_what_cannot_be_compiled_runs_as_it_is_with_one_warning(monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'log', lambda level, text: said.append(text))

    def broken(graph, inputs):
        raise RuntimeError('no such kernel\nand more')

    torch._dynamo.reset()
    network, plain, compiler = compiled_network(broken)
    compiler.active, images = True, torch.randn(4, 3, 32, 32)
    for _ in range(2):
        torch.testing.assert_close(network(images), plain(images))
    text, = (line for line in said if 'not compiled' in line)
    assert text.startswith('BasicBlock is not compiled: ') and 'no such kernel' in text and '\n' not in text


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
