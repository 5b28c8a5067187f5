"""The blocks of a network are found by looking at it, and compiled once a form."""
import copy

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope

from mmkd_atsc.runtime.blocks import BlockCompiler, repeated_blocks

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
