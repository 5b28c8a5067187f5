"""Hostile and broken files are refused in one line, and run nothing, by every way in which a checkpoint enters."""
import functools
import json
import os
import pickle
import zipfile

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from mmkd_atsc.checkpoints.read import read_safely_everywhere
from mmkd_atsc.export import export_student
from mmkd_atsc.runtime.resume import check_start
from model_converters.convert_teacher import convert_file
from tests.conftest import TINY_TRAINING, run_tool, tiny_classifier
from tools import test, train


class Calls:
    """Pickles as a call, which an unpickler that obeys would make."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


class Builds(Calls):
    """As a harmless object, whose state is a call."""

    def __reduce__(self):
        return dict, (), None, None, iter([(1, Calls(*self.call[:1], *self.call[1]))])


def whole():
    """A checkpoint with all that a training saves."""
    torch.manual_seed(0)
    weights = MODELS.build(tiny_classifier(8)).state_dict()
    return dict(state_dict=weights, meta=dict(epoch=1, iter=4), optimizer={}, message_hub={}, param_schedulers=[])


def planted(path, marker, where='meta', call=None, **options):
    content = whole()
    content[where] = call or Calls(os.system, f'touch {marker}')
    torch.save(content, path, **options)


def compressed(path, marker):
    torch.save(dict(whole(), padding=torch.zeros(1_000_000)), path.with_suffix('.plain'))
    with zipfile.ZipFile(path.with_suffix('.plain')) as source, zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as out:
        for info in source.infolist():
            out.writestr(info.filename, source.read(info))


def torchscript(path, marker):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), path)


def changed(**changes):
    def write(path, marker):
        content = whole()
        content['state_dict'].update({key.replace('__', '.'): value for key, value in changes.items()})
        torch.save(content, path)
    return write


def safetensors(header, data=bytes(8)):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return lambda path, marker: path.write_bytes(len(text).to_bytes(8, 'little') + text + data)


def entry(begin=0, end=8, shape=(2, ), dtype='F32'):
    return dict(dtype=dtype, shape=list(shape), data_offsets=[begin, end])


def cut(path, marker):
    torch.save(whole(), path)
    path.write_bytes(path.read_bytes()[:-1000])


def written(content):
    return lambda path, marker: path.write_bytes(content)


# What is wrong with a file, how it is made, what the line says.
CORPUS = dict(
    os_system=(planted, 'asks for code'),
    in_message_hub=(functools.partial(planted, where='message_hub'), 'asks for code'),
    legacy_format=(functools.partial(planted, _use_new_zipfile_serialization=False), 'asks for code'),
    in_weights=(lambda path, marker: changed(backbone__conv1__weight=Calls(open, str(marker), 'w'))(path, marker),
                'asks for code'),
    builds=(lambda path, marker: planted(path, marker, call=Builds(os.mkdir, str(marker))), 'asks for code'),
    borrows_getattr=(lambda path, marker: planted(path, marker, call=Calls(getattr, dict, 'clear')), 'code|truncated'),
    bare_pickle=(lambda path, marker: path.write_bytes(pickle.dumps(Calls(os.mkdir, str(marker)))), 'code|truncated'),
    torchscript=(torchscript, 'is a TorchScript program'),
    compressed=(compressed, 'unpacks to [0-9,]+ bytes'),
    empty=(written(b''), 'is empty'),
    cut=(cut, 'is truncated'),
    web_page=(written(b'<!DOCTYPE html><html>sign in</html>'), 'is a web page'),
    lfs_pointer=(written(b'version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n'), 'git lfs pull'),
    list=(lambda path, marker: torch.save([torch.ones(1)], path), 'holds a list'),
    no_weights=(lambda path, marker: torch.save(dict(epoch=3, meta={}), path), 'holds no weights'),
    nan=(changed(backbone__conv1__weight=torch.full((4, 3, 3, 3), float('nan'))), 'conv1.weight holds nan'),
    huge=(changed(backbone__conv1__weight=torch.ones(1).expand(10**12)), 'without data'),
    sparse=(changed(backbone__conv1__weight=torch.eye(3).to_sparse()), 'is sparse'),
    half_a_zip=(written(b'PK\x03\x04 half a file'), 'is truncated or not a checkpoint'),
    float8=(changed(backbone__conv1__weight=torch.ones(4, 3, 3, 3).to(torch.float8_e5m2)), 'is sparse, quantized'),
    st_header=(safetensors(b'{"a": '), 'invalid JSON in header'),
    st_length=(written(b'\xff' * 7 + b'\x7f{}'), 'header too large'),
    st_overlap=(safetensors(dict(a=entry(), b=entry(4, 8, (1, )))), 'or not a checkpoint .*invalid offset'),
    st_shape=(safetensors(dict(a=entry(shape=(2**62, 4)))), 'overflow'),
    st_float8=(safetensors(dict(a=entry(shape=(8, ), dtype='F8_E4M3'))), 'is sparse, quantized'),
)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp('corpus')
    for name, (write, _) in CORPUS.items():
        write(folder / f'{name}.pth', folder / f'{name}_ran')
    assert not list(folder.glob('*_ran'))  # making them runs nothing
    return folder


def build_teacher(path, tmp_path):
    MODELS.build(dict(
        type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), teacher=tiny_classifier(8),
        teacher_ckpt=str(path), distiller=dict(type='mmkd_atsc.AEKTDistiller', num_classes=10)))


def start(path, tmp_path, resume=False):
    check_start(Config(dict(work_dir=str(tmp_path), load_from=str(path), resume=resume)))


def export(path, tmp_path):
    (tmp_path / 'a.py').write_text(TINY_TRAINING)
    export_student(Config.fromfile(tmp_path / 'a.py'), path, tmp_path / 'out')


WAYS = dict(teacher_ckpt=build_teacher, load_from=start, resume=functools.partial(start, resume=True), export=export,
            converter=lambda path, tmp_path: convert_file(path, tmp_path / 'out.pth', 'resnet20'))


@pytest.mark.parametrize('name, way', [*((name, 'load_from') for name in CORPUS), *(
    (name, way) for way in WAYS for name in ('os_system', 'compressed', 'st_overlap', 'nan'))])
def test_every_way_in_refuses(corpus, tmp_path, name, way):
    path = corpus / f'{name}.pth'
    with pytest.raises(ValueError, match=CORPUS[name][1]) as error:
        WAYS[way](path, tmp_path)
    assert str(error.value).startswith(str(path)) and '\n' not in str(error.value)
    assert not list(corpus.glob('*_ran')) and not (tmp_path / 'out.pth').exists()


CODE = [name for name, (_, words) in CORPUS.items() if 'code' in words and not name.startswith('st_')]


@pytest.mark.parametrize('name', [*CODE, 'empty', 'cut'])
def test_mmengines_own_loader_runs_nothing_either(corpus, name, monkeypatch):
    """From files and URLs, and when PyTorch is told to be careless: a student's own ``init_cfg``, for instance."""
    read_safely_everywhere()
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    from mmengine.runner.checkpoint import _load_checkpoint
    monkeypatch.setattr('mmkd_atsc.checkpoints.read.fetch', lambda url: corpus / f'{name}.pth')
    for path in corpus / f'{name}.pth', 'https://example.org/a.pth':
        with pytest.raises(ValueError, match=CORPUS[name][1]):
            _load_checkpoint(str(path))
    assert not list(corpus.glob('*_ran'))


@pytest.mark.parametrize('name', ['in_message_hub', 'nan'])
def test_the_tools_refuse_before_anything_is_built(corpus, tmp_path, name, capsys):
    path, config = corpus / f'{name}.pth', tmp_path / 'a.py'
    config.write_text(TINY_TRAINING)
    for main, command in (train.main, ['--resume', path]), (test.main, [path]):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in (config, '--work-dir', tmp_path / 'w', *command)])
        line = capsys.readouterr().err
        assert stop.value.code == 2 and line.startswith(f'error: {path}') and line.count('\n') == 1
    assert not (tmp_path / 'w').exists() and not list(corpus.glob('*_ran'))


def test_the_text_of_a_config_in_a_checkpoint_is_not_run_on_resuming(tmp_path):
    """MMEngine would: it is a plain string, which weights_only lets pass."""
    config, work_dir = tmp_path / 'a.py', tmp_path / 'w'
    config.write_text(TINY_TRAINING)
    run_tool('train.py', config, '--work-dir', work_dir, '--cfg-options', 'train_cfg.max_epochs=1')
    path, marker = work_dir / 'epoch_1.pth', tmp_path / 'ran'
    content = torch.load(path, weights_only=True)
    content['meta']['config'] = f'gpu_ids = open({str(marker)!r}, "w").close()'
    torch.save(content, path)
    done = run_tool('train.py', config, '--work-dir', work_dir, '--resume')
    assert done.returncode == 0 and 'Epoch(train) [2]' in done.stdout and not marker.exists()
