"""Each patch works where it is needed, when its module is imported, and changes nothing else."""
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

from mmkd_atsc import compat
from tests.conftest import ROOT, run_command


def python(code):
    """Runs code with warnings as errors, but for deprecations inside of other packages."""
    return run_command(sys.executable, '-W', 'error::UserWarning', '-W', 'ignore::DeprecationWarning', '-c', code)


def test_mmrazor_fails_without_the_package_and_imports_with_it():
    code = 'import mmrazor.models; print(mmrazor.models.DKDLoss.__name__)'
    assert 'torch>=1.13' in python(code).stderr
    for more in ('import mmkd_atsc, importlib.util; importlib.util.find_spec("mmrazor")',
                 'import torch, mmengine.runner, mmkd_atsc'):
        done = python(f'{more}; {code}; from mmengine.utils import digit_version; '
                      'assert mmrazor.digit_version is digit_version')
        assert done.stdout == 'DKDLoss\n' and not done.stderr, done.stderr


def test_mmengines_history_loads_safely_and_not_without_the_patch(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({'message_hub': {'loss': history}, 'lr': torch.ones(1).numpy()[0]}, tmp_path / 'state.pth')
    loaded = torch.load(tmp_path / 'state.pth', weights_only=True)
    assert loaded['message_hub']['loss'].mean() == 1.5 and loaded['lr'] == 1.0
    load = f'import torch; torch.load({str(tmp_path / "state.pth")!r}, weights_only=True)'
    assert 'Weights only load failed' in python(load).stderr
    assert python(f'import mmkd_atsc; {load}').returncode == 0


@pytest.mark.parametrize('owner, name', [(HistoryBuffer, '__init__'), (torch.Tensor, 'mean')])
def test_no_other_attribute_is_served(owner, name):
    with pytest.raises(ValueError, match='only HistoryBuffer'):
        compat.getattr_of_history(owner, name)


def test_configs_are_found_where_the_package_is_and_not_where_its_metadata_is():
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.utils import get_installed_path
    assert Path(get_installed_path(MODULE2PACKAGE['mmkd_atsc'])) == Path(compat.__file__).parent


@pytest.mark.parametrize('hooks', [dict(start_check=None, timer=None), None])
def test_a_hook_of_a_base_file_can_be_left_out(hooks):
    runner = Runner.__new__(Runner)
    runner._hooks = []
    runner.register_default_hooks(hooks)
    names = [type(hook).__name__ for hook in runner.hooks]
    assert 'LoggerHook' in names and ('IterTimerHook' in names) == (hooks is None)


def test_mmcls_is_mmpretrain():
    """That its names in configs are tests/test_mix/test_mix_configs.py shows."""
    done = python('import mmkd_atsc, mmcls.models.utils, mmpretrain.models; '
                  'print(mmcls.models.utils is mmpretrain.models.utils, mmpretrain.__spec__.name)')
    assert done.stdout == 'True mmpretrain\n', done.stderr


def test_a_base_of_ours_is_found_where_pytorch_was_imported_first():
    done = python('import torch, mmkd_atsc; from mmengine.config import Config; '
                  'print(Config._get_cfg_path("mmkd_atsc::short/resnet8.py", ""))')
    assert "configs/short/resnet8.py', None)" in done.stdout, done.stderr


def test_a_network_of_ours_takes_the_data_preprocessor_of_a_stock_data_set(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text("_base_ = ['mmkd_atsc::_base_/models/resnet8.py', 'mmpretrain::_base_/datasets/cifar100_bs16.py']")
    config = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        network = MODELS.build(dict(config.resnet8, data_preprocessor=config.data_preprocessor))
    assert network.data_preprocessor.std is not None


def test_a_real_mmcls_is_left_alone(tmp_path):
    (tmp_path / 'mmcls').mkdir()
    (tmp_path / 'mmcls' / '__init__.py').write_text('')
    (tmp_path / 'mmcls' / 'registry.py').write_text(
        'from mmengine.registry import MODELS as ROOT, Registry\n'
        'MODELS = Registry("model", parent=ROOT, scope="mmcls", locations=["mmcls"])\n'
        'MODELS.register_module("Net", module=dict)')
    done = run_command(sys.executable, '-c', 'import mmkd_atsc; from mmengine.registry import MODELS; '
                       'print(MODELS.get("mmcls.Net"))', PYTHONPATH=f'{tmp_path}:{ROOT}')
    assert done.stdout == "<class 'dict'>\n", done.stderr
