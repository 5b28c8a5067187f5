"""The fast forms of a network give what the plain one gives."""
import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS, MODELS
from torch import nn

from mmkd_atsc.runtime.accelerate import AccelerateHook, backbones_of, compile_guarded, without_cuda_graphs
from tests.conftest import tiny_classifier
from tests.test_models.test_algorithms.test_adaptive_teacher_distill import batches, build, optimizer_of


def aekt(checkpoint):
    torch.manual_seed(0)
    return MODELS.build(dict(
        type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), teacher=tiny_classifier(8),
        teacher_ckpt=checkpoint, distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=10))).train()


def runner_of(model):
    return SimpleNamespace(model=model, optim_wrapper=None)


def losses_of_steps(model, count=3):
    wrapper, losses = optimizer_of(model), []
    for data, _ in batches(count):
        data['inputs'] = data['inputs'] / 64 - 2
        losses.append({key: float(value) for key, value in model.train_step(data, wrapper).items()})
    return losses


@pytest.mark.parametrize('method', [build, aekt])
@pytest.mark.parametrize('options', [dict(channels_last=True), dict(compile=dict(backend='eager')),
                                     dict(channels_last=True, compile=dict(backend='aot_eager'))])
def test_steps_are_the_plain_networks(teacher_checkpoint, method, options):
    plain = method(teacher_checkpoint)
    fast = copy.deepcopy(plain)
    AccelerateHook(**options).before_run(runner_of(fast))
    calls = []
    if 'compile' in options:
        parts = [network for _, network in backbones_of(fast)] + list(fast.distiller.distill_losses.values())
        assert len(parts) == 3
        for network in parts:
            compiled = network._compiled_call_impl
            network._compiled_call_impl = lambda *a, call=compiled, **k: (calls.append(1), call(*a, **k))[1]
    expected, got = losses_of_steps(plain), losses_of_steps(fast)
    for one, other in zip(expected, got):
        assert other == pytest.approx(one, rel=1e-3, abs=1e-4)
    assert len(calls) == (9 if 'compile' in options else 0)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    if options.get('channels_last'):
        weight = fast.teacher.backbone.layer1[0].conv1.weight
        assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
        features = fast.student.backbone(torch.randn(2, 3, 32, 32))[-1]
        assert features.is_contiguous(memory_format=torch.channels_last)


def test_anchors_are_laid_out_like_their_parameters(teacher_checkpoint):
    model = build(teacher_checkpoint)
    AccelerateHook(channels_last=True).before_run(runner_of(model))
    anchor = model.distiller.anchors['teacher']
    assert [a.stride() for a in anchor._anchors] == [p.stride() for p in anchor._parameters_now()]


@pytest.mark.parametrize('setting, device_is_fast', [('auto', True), (True, True), (False, False)])
def test_when_the_layout_is_changed(setting, device_is_fast):
    model = nn.ModuleDict(dict(backbone=nn.Conv2d(3, 4, 3)))
    AccelerateHook(channels_last=setting).before_run(runner_of(model))
    assert model['backbone'].weight.is_contiguous() != device_is_fast


def test_what_cannot_be_compiled_runs_as_it_is_with_one_warning(monkeypatch):
    said = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'log', lambda level, text: said.append((level, text)))

    def broken(graph, inputs):
        raise RuntimeError('no such kernel\nand more')
    network, images = nn.Sequential(nn.Linear(3, 2)), torch.randn(4, 3)
    expected = network(images)
    compile_guarded(network, 'backbone of student', backend=broken)
    for _ in range(3):
        torch.testing.assert_close(network(images), expected)
    (level, text), = said
    assert level == 30 and 'the backbone of student (Sequential) is not compiled' in text and '\n' not in text


def test_an_error_of_the_network_itself_is_no_warning():
    network = nn.Sequential(nn.Linear(3, 2))
    compile_guarded(network, 'backbone', backend='eager')
    with pytest.raises(RuntimeError, match='shapes cannot be multiplied|incompatible'):
        network(torch.randn(4, 5))


@pytest.mark.parametrize('options, error, words', [
    (dict(channels_last='yes'), ValueError, "channels_last='yes' is not one of True, False, 'auto'"),
    (dict(compile='max'), TypeError, "compile='max' must be True, False, 'blocks' or a dict"),
])
def test_wrong_options_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        HOOKS.build(dict(type='mmkd_atsc.AccelerateHook', **options))


def test_each_form_falls_back_for_itself():
    """Scoring comes before training, and what compiles without gradients may not compile with them."""
    def scores_only(graph, inputs):
        if torch.is_grad_enabled():
            raise RuntimeError('no backward')
        return graph.forward

    network, images = nn.Sequential(nn.Linear(3, 2)), torch.randn(4, 3)
    compile_guarded(network, 'backbone', backend=scores_only)
    with torch.no_grad():
        expected = network.eval()(images)
    got = network.train()(images)
    torch.testing.assert_close(got, expected)
    assert got.requires_grad


def test_cuda_graphs_are_for_backbones():
    options = dict(options={'triton.cudagraphs': True, 'max_autotune': True})
    assert without_cuda_graphs(options) == dict(options={'triton.cudagraphs': False, 'max_autotune': True})


def test_many_networks_are_all_compiled():
    """More than the eight forms of a code that PyTorch compiles by default."""
    graphs = []
    for size in range(2, 14):
        network = nn.Sequential(nn.Linear(size, 2))
        compile_guarded(network, 'backbone', backend=lambda graph, inputs: (graphs.append(1), graph.forward)[1])
        network(torch.randn(3, size))
    assert len(graphs) == 12
