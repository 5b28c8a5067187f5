"""Weights are read safely, loaded strictly, and refused in one line that names the file."""
import re

import pytest
import torch
from mmengine.registry import MODELS
from safetensors.torch import save_file
from torch import nn

from mmkd_atsc.checkpoints.read import load_strictly, read_weights
from tests.conftest import tiny_classifier


def net(out=2):
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, out))


@pytest.mark.parametrize('wrap', [
    lambda w: dict(state_dict=w, meta={}), lambda w: dict(model=w, epoch=3), lambda w: dict(net=w), lambda w: w,
    lambda w: dict(state_dict={f'module.{k}': v for k, v in w.items()}),
])
def test_known_layouts_load(tmp_path, wrap):
    saved, loaded = net(), net()
    torch.save(wrap(saved.state_dict()), tmp_path / 'a.pth')
    load_strictly(loaded, read_weights(str(tmp_path / 'a.pth')), 'a.pth')
    assert all(torch.equal(a, b) for a, b in zip(saved.state_dict().values(), loaded.state_dict().values()))


def test_other_shapes_missing_and_unexpected_keys_are_counted():
    weights = net(out=5).state_dict()
    weights['extra.weight'] = weights.pop('0.weight')
    with pytest.raises(ValueError, match=r'a\.pth does not fit resnet: 1 missing \(0\.weight\); 1 unexpected '
                                         r'\(extra\.weight\); 2 of another shape \(3\.weight \(5, 4\) for \(2, 4\)'):
        load_strictly(net(), weights, 'a.pth', role='resnet')


@pytest.mark.parametrize('name', ['net.safetensors', 'net.pth'])
def test_safetensors_are_read_whatever_their_name(tmp_path, name):
    weights = dict(net().state_dict(), empty=torch.zeros(0, 3), half=torch.tensor([0.5, -2.0]).half())
    save_file(weights, tmp_path / name, metadata=dict(format='pt'))
    read = read_weights(str(tmp_path / name))
    assert read.keys() == weights.keys()
    assert all(value.equal(weights[key]) and value.dtype == weights[key].dtype for key, value in read.items())


@pytest.mark.parametrize('counter', ['steps', 'n_averaged'])
def test_averaged_weights_by_choice(tmp_path, counter):
    trained, averaged = net().state_dict(), net().state_dict()
    path = str(tmp_path / 'run.pth')
    torch.save(dict(state_dict=trained, ema_state_dict={
        counter: torch.tensor(3), **{f'module.{key}': value for key, value in averaged.items()}}), path)
    assert read_weights(path)['3.weight'].equal(trained['3.weight'])
    chosen = net()
    load_strictly(chosen, read_weights(f'{path}#ema_state_dict'), path)
    assert chosen[3].weight.equal(averaged['3.weight'])
    with pytest.raises(ValueError, match="run.pth: has no weights 'ema'; it can be given as .*#state_dict or .*#ema_"):
        read_weights(f'{path}#ema')
    torch.save(dict(ema_state_dict=averaged), path)  # alone they are not taken unasked
    with pytest.raises(ValueError, match='holds no weights; its entries are ema_state_dict; .*run.pth#ema_state_dict'):
        read_weights(path)


@pytest.mark.parametrize('weights, words', [
    ({f'architecture.{key}': value for key, value in net().state_dict().items()}, 'tools/export_student.py takes'),
    ({'conv1.weight': torch.ones(1), 'fc.weight': torch.ones(1)}, 'tools/model_converters/convert_teacher.py'),
    (dict(net().state_dict(), **{'3.weight': torch.ones(2, 4, dtype=torch.int8)}),
     r'1 of another type \(3.weight torch.int8 for torch.float32\)'),
])
def test_what_does_not_fit_says_what_to_do(weights, words):
    with pytest.raises(ValueError, match=f'a.pth does not fit teacher: .*{words}'):
        load_strictly(net(), weights, 'a.pth', role='teacher')


def test_a_network_that_knows_its_older_names_is_believed():
    """A Swin of the zoo's oldest files: its last norm had another name, its masks were saved."""
    arch = dict(embed_dims=4, depths=[2, 2, 2, 2], num_heads=[1, 1, 1, 1])
    swin = MODELS.build(dict(type='mmpretrain.SwinTransformer', arch=arch, img_size=32, window_size=2))
    weights = {re.sub('^norm3', 'norm', key): value + 1 for key, value in swin.state_dict().items()}
    weights['stages.0.blocks.1.attn.attn_mask'] = torch.zeros(4, 4)
    load_strictly(swin, weights, 'swin.pth')
    assert torch.equal(swin.norm3.weight, weights['norm.weight'])
    del weights['norm.weight']
    with pytest.raises(ValueError, match='swin.pth does not fit SwinTransformer: '):
        load_strictly(swin, weights, 'swin.pth')


def test_a_first_teacher_without_batch_norm_keeps_its_place():
    """The counters of the second's come after all weights: names are read in the order of the keys."""
    plain = dict(tiny_classifier(4), backbone=dict(
        type='mmpretrain.ConvNeXt', arch=dict(depths=[1] * 4, channels=[8] * 4), out_indices=(3, )))
    model = MODELS.build(dict(
        type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), allow_random_teacher=True,
        teacher=dict(plain=plain, with_norm=tiny_classifier(8)), distiller=dict(type='mmkd_atsc.AEKTDistiller')))
    weights = model.state_dict()
    load_strictly(model, weights, 'a.pth')
    load_strictly(model, {key: value for key, value in weights.items() if 'num_batches' not in key}, 'old.pth')
