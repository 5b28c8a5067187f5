"""What a user types wrong is answered in one line, and before anything heavy is imported."""
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, HOOKS, MODELS

from mmkd_atsc import cli, launch
from mmkd_atsc.errors.messages import describe
from mmkd_atsc.errors.settings import check_settings
from tests.conftest import ROOT, run_command


@pytest.mark.parametrize('command, words', [
    (['tools/train.py', '--help'], '--auto-scale-lr'),
    (['tools/train.py', 'nowhere.py'], 'error: no such config: nowhere.py'),
    (['-m', 'mmkd_atsc.launch', '2', 'tools/train.py', 'nowhere.py'], 'error: no such config: nowhere.py'),
])
def test_what_needs_no_pytorch_is_answered_without_it(command, words):
    done = run_command(sys.executable, '-X', 'importtime', *command)
    imported = {line.rpartition('|')[2].strip() for line in done.stderr.splitlines() if line.startswith('import time:')}
    assert words in done.stdout + done.stderr
    assert 'mmkd_atsc.compat' in imported
    assert not {'torch', 'mmpretrain', 'mmrazor', 'mmcv'} & imported


@pytest.mark.parametrize('path, words', [
    (f'{ROOT}/configs/teachers/resnet111_cifar100.py', "no such config: .*did you mean '.*resnet116_cifar100.py'"),
    ('mmkd_atsc::teachers/resnet21_cifar100.py', 'no such config: mmkd_atsc::teachers/resnet21'),
    ('mmdet::yolo/yolo.py', "there is no package 'mmdet' here"),  # MMEngine would run pip
])
def test_a_config_that_is_not_there_is_named(path, words):
    with pytest.raises((FileNotFoundError, ValueError, ModuleNotFoundError), match=words):
        cli.load_config(path)


@pytest.mark.parametrize('text, words', [
    ('model = dict(', 'a.py: SyntaxError'), ("_base_ = 'mmkd_atsc::gone/b.py'", 'a.py: FileNotFoundError: .*gone'),
])
def test_a_config_that_does_not_load_is_named_with_the_reason(tmp_path, text, words):
    (tmp_path / 'a.py').write_text(text)
    with pytest.raises(ValueError, match=words):
        cli.load_config(str(tmp_path / 'a.py'))


@pytest.mark.parametrize('option, words', [
    ('trian_cfg.max_epochs', "trian_cfg: no setting that anything reads; did you mean 'train_cfg'"),
    ('data_root', r'data_root: is a variable of the config, .*; set train_dataloader\.dataset\.data_root=\.\.\.'),
])
def test_an_option_that_nothing_would_read_is_refused(option, words):
    with pytest.raises(ValueError, match=words):
        cli.load_config('mmkd_atsc::teachers/resnet20_cifar100.py', {option: 1})


@pytest.mark.parametrize('words', [['a.b.c'], ['a..b=3'], ['a=[1,(2']])
def test_options_that_are_none_are_refused_in_one_line(words, capsys):
    parser = cli.Parser()
    cli.add_common_arguments(parser)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(['config.py', '--cfg-options', *words])
    message = capsys.readouterr().err
    assert stop.value.code == 2 and message.startswith('error: --cfg-options') and message.count('\n') == 1


@pytest.mark.parametrize('error, has_trained, wish', [
    (ZeroDivisionError(), False, ''), (ValueError('in the middle of training'), True, ''), (ValueError(), False, '1')])
def test_bugs_and_errors_after_the_first_step_keep_their_traceback(error, has_trained, wish, monkeypatch):
    monkeypatch.setenv('MMKD_TRACEBACK', wish)
    with pytest.raises(type(error)), cli.one_line_errors() as progress:
        progress.has_trained = has_trained
        raise error


def test_several_machines_come_from_the_environment_and_one_takes_a_free_port():
    environment = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='29501')
    assert launch.torchrun_arguments(8, ['train.py'], environment) == [
        '--nnodes=2', '--node_rank=1', '--nproc_per_node=8', '--master_addr=10.0.0.1', '--master_port=29501',
        '--module', 'mmkd_atsc', 'train.py', '--launcher', 'pytorch']
    port = next(a for a in launch.torchrun_arguments(2, ['train.py'], {}) if a.startswith('--master_port'))
    assert 1024 < int(port.split('=')[1]) < 65536


def test_fewer_gpus_than_asked_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    with pytest.raises(SystemExit, match='8 GPUs asked for, this machine has 2'):
        launch.check_devices(8)
    launch.check_devices(2)


def test_what_mmengine_would_ignore_is_refused():
    with pytest.raises(ValueError, match="custom_hook: .*did you mean 'custom_hooks'"):
        check_settings(Config(dict(custom_hook=[])))
    with pytest.raises(ValueError, match="checkpoint hook: interal .*did you mean 'interval'"):
        HOOKS.build(dict(type='mmkd_atsc.AtomicCheckpointHook', interal=3))
    wrapper = dict(constructor='mmkd_atsc.DistillOptimWrapperConstructor', optimizer=dict(type='SGD', lr=0.1))
    with pytest.raises(ValueError, match="paramwise_cfg: norm_decay .*'norm_decay_mult'"):
        build_optim_wrapper(torch.nn.Linear(2, 2), dict(wrapper, paramwise_cfg=dict(norm_decay=0)))
    check_settings(Config(dict(data_root='x', student=dict(type='Net'), hooks=[], default_hooks=dict(timer=None))))


def test_mmpretrains_own_configs_pass():
    """``_delete`` is a slip of its own."""
    assert cli.load_config('mmpretrain::twins/twins-pcpvt-base_8xb128_in1k.py', {}).optim_wrapper


def test_a_file_beside_the_config(tmp_path):
    (tmp_path / 'a.py').write_text("teacher_ckpt = '{{ fileDirname }}/teacher.pth'")
    assert cli.load_config(str(tmp_path / 'a.py')).teacher_ckpt == f'{tmp_path}/teacher.pth'


HEAD = dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=64)


@pytest.mark.parametrize('registry, config, line', [
    (MODELS, dict(type='mmpretrain.LinearClsHed'),
     "there is no model 'mmpretrain.LinearClsHed'; did you mean 'mmpretrain.LinearClsHead'?"),
    (MODELS, dict(HEAD, num_clases=3), "ClsHead has no argument 'num_clases'; did you mean 'num_classes'?"),
    (MODELS, dict(type='mmkd_atsc.CIFARResNet', depht=8),
     "StagedBackbone has no argument 'depht'; did you mean 'depth'?"),
    (DATASETS, dict(type='mmpretrain.CustomDataset', data_root='.', pipelines=[], split='x'),
     "BaseDataset has no argument 'pipelines'; did you mean 'pipeline'?"),
])
def test_of_an_unknown_type_or_argument_the_nearest_is_named(registry, config, line):
    with pytest.raises((KeyError, TypeError, RuntimeError, AssertionError)) as error:
        registry.build(config)
    assert describe(error.value) == line


@pytest.mark.parametrize('error, line', [
    (KeyError('epoch'), "KeyError: 'epoch'"), (TypeError('a\nb'), 'TypeError: a b'),
    (ValueError('tau=0\n  is no tau'), 'tau=0 is no tau')])
def test_other_messages_are_left_as_they_are(error, line):
    assert describe(error) == line
