"""Weights are read safely, loaded strictly, and refused in one line that names the file."""
import pytest
import torch
from torch import nn

from mmkd_atsc.engine.checkpoint import load_strictly, read_checkpoint, read_weights, weights_of


def net(out=2):
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, out))


@pytest.mark.parametrize('wrap', [
    lambda w: dict(state_dict=w, meta={}), lambda w: dict(model=w, epoch=3), lambda w: dict(net=w), lambda w: w,
    lambda w: dict(state_dict={f'module.{k}': v for k, v in w.items()}),
])
def test_known_layouts_load(tmp_path, wrap):
    torch.save(wrap(net().state_dict()), tmp_path / 'a.pth')
    loaded = net()
    load_strictly(loaded, read_weights(str(tmp_path / 'a.pth')), 'a.pth')


def test_what_is_loaded_is_what_was_saved(tmp_path):
    first, second = net(), net()
    torch.save(first.state_dict(), tmp_path / 'a.pth')
    load_strictly(second, read_weights(str(tmp_path / 'a.pth')), 'a.pth')
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))


def test_old_files_without_batch_counters_load():
    weights = {k: v for k, v in net().state_dict().items() if 'num_batches' not in k}
    load_strictly(net(), weights, 'old.pth')


class Hostile:
    def __reduce__(self):
        return print, ('planted',)


@pytest.mark.parametrize('content, words', [
    (b'', 'the file is empty'),
    (b'<!DOCTYPE html><html>login</html>', 'web page'),
    (b'version https://git-lfs.github.com/spec/v1\noid sha256:1', 'git lfs pull'),
    (b'PK\x03\x04 half a file', 'truncated or not a checkpoint'),
    (b'\x00\x01\x02', 'truncated or not a checkpoint'),
    (b'resnet14, 69.06 %\n', 'truncated or not a checkpoint'),
])
def test_broken_files_are_named(tmp_path, content, words):
    path = tmp_path / 'broken.pth'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f'broken.pth: .*{words}'):
        read_checkpoint(str(path))


def test_truncated_checkpoints_are_refused(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save(net().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r'a\.pth: is truncated'):
        read_checkpoint(str(path))


def test_hostile_pickles_do_not_run(tmp_path, capsys):
    torch.save(dict(state_dict=Hostile()), tmp_path / 'h.pth')
    with pytest.raises(ValueError, match=r'h\.pth: asks for code to be run'):
        read_checkpoint(str(tmp_path / 'h.pth'))
    assert 'planted' not in capsys.readouterr().out


def test_missing_file():
    with pytest.raises(FileNotFoundError, match='nowhere.pth: no such checkpoint'):
        read_checkpoint('nowhere.pth')


def test_other_shapes_missing_and_unexpected_keys_are_counted():
    weights = net(out=5).state_dict()
    weights['extra.weight'] = weights.pop('0.weight')
    with pytest.raises(ValueError, match=r'a\.pth does not fit resnet: 1 missing \(0\.weight\); 1 unexpected '
                                         r'\(extra\.weight\); 2 of another shape \(3\.weight \(5, 4\) for \(2, 4\)'):
        load_strictly(net(), weights, 'a.pth', role='resnet')


def test_nan_weights_are_refused():
    weights = net().state_dict()
    weights['0.weight'][0] = float('nan')
    with pytest.raises(ValueError, match=r'0\.weight holds nan or inf'):
        weights_of(weights, 'a.pth')


@pytest.mark.parametrize('content', [{}, dict(epoch=3), dict(state_dict={})])
def test_no_weights_inside(content):
    with pytest.raises(ValueError, match='holds no weights'):
        weights_of(content, 'a.pth')


def test_a_failed_load_changes_nothing():
    model = net()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(ValueError):
        load_strictly(model, net(out=5).state_dict(), 'a.pth')
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
