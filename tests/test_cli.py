"""What a user types wrong is answered in one line."""
import pytest

from mmkd_atsc import cli
from mmkd_atsc.launch import free_port, parse_processes, torchrun_arguments


def test_config_name_with_a_typo_names_the_nearest(tmp_path):
    (tmp_path / 'resnet110.py').write_text('a = 1')
    with pytest.raises(FileNotFoundError, match=r"no such config: .*did you mean '.*resnet110.py'"):
        cli.load_config(str(tmp_path / 'resnet11.py'))


def test_options_are_merged(tmp_path):
    (tmp_path / 'a.py').write_text('train_cfg = dict(max_epochs=3)')
    assert cli.load_config(str(tmp_path / 'a.py'), {'train_cfg.max_epochs': 5}).train_cfg.max_epochs == 5


def test_configs_of_packages_load_by_path():
    config = cli.load_config('mmkd_atsc::teachers/resnet20_cifar100.py')
    assert config.model.backbone.depth == 20 and config.default_scope == 'mmpretrain'


@pytest.mark.parametrize('error, code', [(ValueError('tau=0'), 2), (KeyError('model'), 2)])
def test_user_errors_end_in_one_line(error, code, capsys, monkeypatch):
    monkeypatch.delenv('MMKD_TRACEBACK', raising=False)
    with pytest.raises(SystemExit) as stop, cli.one_line_errors():
        raise error
    assert stop.value.code == code and capsys.readouterr().err.startswith('error: ')


def test_bugs_keep_their_traceback():
    with pytest.raises(ZeroDivisionError), cli.one_line_errors():
        raise ZeroDivisionError


def test_errors_after_the_first_step_keep_their_traceback():
    with pytest.raises(ValueError), cli.one_line_errors() as first_step:
        first_step.after_train_iter(None, 0)
        raise ValueError('in the middle of training')


def test_the_traceback_can_be_asked_for(monkeypatch):
    monkeypatch.setenv('MMKD_TRACEBACK', '1')
    with pytest.raises(ValueError), cli.one_line_errors():
        raise ValueError


@pytest.mark.parametrize('text', ['0', '-1', 'two', ''])
def test_number_of_gpus_is_checked(text):
    with pytest.raises(SystemExit, match='whole number from 1'):
        parse_processes(text)


def test_several_machines_come_from_the_environment():
    environment = dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='29501')
    assert torchrun_arguments(8, ['train.py'], environment) == [
        '--nnodes=2', '--node_rank=1', '--nproc_per_node=8', '--master_addr=10.0.0.1', '--master_port=29501',
        'train.py', '--launcher', 'pytorch']


def test_one_machine_takes_a_free_port():
    port = next(a for a in torchrun_arguments(2, ['train.py'], {}) if a.startswith('--master_port'))
    assert 1024 < int(port.split('=')[1]) < 65536 and 1024 < free_port() < 65536


def test_fewer_gpus_than_asked_is_refused(monkeypatch):
    import torch

    from mmkd_atsc import launch
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    with pytest.raises(SystemExit, match='8 GPUs asked for, this machine has 2'):
        launch.check_devices(8)
    launch.check_devices(2)
