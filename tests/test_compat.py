"""Each patch does its work where it is needed, and nothing where it is not."""
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from mmengine.logging import HistoryBuffer

from mmkd_atsc import compat


def python(code):
    """What is deprecated inside of other packages is not shown to users, who have no say in it."""
    strict = ['-W', 'error::UserWarning', '-W', 'ignore::DeprecationWarning']
    return subprocess.run([sys.executable, *strict, '-c', code], text=True, capture_output=True)


def test_mmrazor_fails_without_the_package_and_imports_with_it():
    code = 'import mmrazor.models; print(mmrazor.models.DKDLoss.__name__)'
    assert 'torch>=1.13' in python(code).stderr
    done = python('import mmkd_atsc; ' + code)
    assert done.stdout == 'DKDLoss\n' and not done.stderr, done.stderr


def test_the_version_check_is_put_back():
    import mmrazor
    from mmengine.utils import digit_version
    assert mmrazor.digit_version is digit_version
    assert mmrazor.digit_version(torch.__version__) > mmrazor.digit_version('2.5')


def test_the_check_is_changed_only_while_importing(monkeypatch):
    import mmrazor
    seen = []
    check = mmrazor.digit_version
    monkeypatch.setattr(compat, 'MMRAZOR_PACKAGES', ('mmrazor.not_imported_yet',))
    monkeypatch.setattr(compat.importlib, 'import_module', lambda name: seen.extend(
        [mmrazor.digit_version(torch.__version__), mmrazor.digit_version('2.0')]))
    compat.import_mmrazor()
    assert seen == [check('1.12.0'), check('2.0')] and mmrazor.digit_version is check


def save_history(path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({'message_hub': {'loss': history}, 'lr': torch.ones(1).numpy()[0]}, path)


def test_mmengines_history_loads_safely(tmp_path):
    save_history(tmp_path / 'state.pth')
    loaded = torch.load(tmp_path / 'state.pth', weights_only=True)
    assert loaded['message_hub']['loss'].mean() == 1.5 and loaded['lr'] == 1.0


def test_history_is_refused_without_the_patch(tmp_path):
    save_history(tmp_path / 'state.pth')
    done = python(f'import torch; torch.load({str(tmp_path / "state.pth")!r}, weights_only=True)')
    assert 'Weights only load failed' in done.stderr


class Payload:
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize('payload', [
    Payload(print, 'planted'), Payload(getattr, HistoryBuffer, '__init__'), Payload(getattr, torch.Tensor, 'numpy'),
    Payload(exec, 'raise SystemExit'), Payload(getattr, HistoryBuffer, 'update'),
])
def test_nothing_else_is_allowed(tmp_path, payload, capsys):
    torch.save(dict(state_dict=payload), tmp_path / 'hostile.pth')
    with pytest.raises(Exception, match=r'Weights only load failed|only HistoryBuffer'):
        torch.load(tmp_path / 'hostile.pth', weights_only=True)
    assert 'planted' not in capsys.readouterr().out


def test_configs_are_found_where_the_package_is_and_not_where_its_metadata_is():
    from mmengine.config.utils import MODULE2PACKAGE
    from mmengine.utils import get_installed_path
    assert Path(get_installed_path(MODULE2PACKAGE['mmkd_atsc'])) == Path(compat.__file__).parent


def test_a_data_loader_of_a_packages_config_builds(monkeypatch):
    from mmengine.runner import Runner
    loader = dict(batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=[1, 2])
    inherited = dict(loader, collate_fn=dict(type='default_collate', _scope_='mmkd_atsc'))
    assert next(iter(Runner.build_dataloader(inherited))).tolist() == [1, 2]
    assert inherited['collate_fn']['_scope_'] == 'mmkd_atsc'  # the config stays what it was
    own = dict(loader, collate_fn=dict(type='default_collate'))
    assert next(iter(Runner.build_dataloader(own))).tolist() == [1, 2]

    monkeypatch.setattr(Runner, 'build_dataloader', staticmethod(Runner.build_dataloader.__wrapped__))
    with pytest.raises(TypeError, match='_scope_'):
        next(iter(Runner.build_dataloader(inherited)))
    compat.let_collate_functions_be_inherited()
    assert next(iter(Runner.build_dataloader(inherited))).tolist() == [1, 2]


def test_only_known_warnings_are_silenced():
    with warnings.catch_warnings():
        warnings.resetwarnings()
        compat.silence_unhelpful_warnings()
        with warnings.catch_warnings(record=True) as caught:
            warnings.warn('size_average and reduce args will be deprecated, please use reduction')
            warnings.warn('your learning rate is strange')
        assert [str(w.message) for w in caught] == ['your learning rate is strange']


def test_nothing_is_printed_at_import():
    done = python('import mmkd_atsc, mmkd_atsc.models, mmkd_atsc.engine, mmkd_atsc.datasets, mmpretrain.models')
    assert done.returncode == 0 and done.stdout == '' and done.stderr == ''


@pytest.mark.parametrize('hooks', [dict(start_check=None, timer=None), None])
def test_a_hook_of_a_base_file_can_be_left_out(hooks):
    from mmengine.runner import Runner
    runner = Runner.__new__(Runner)
    runner._hooks = []
    runner.register_default_hooks(hooks)
    names = [type(hook).__name__ for hook in runner.hooks]
    assert 'LoggerHook' in names and ('IterTimerHook' in names) == (hooks is None)
    before = Runner.register_default_hooks
    compat.let_base_hooks_be_left_out()
    assert Runner.register_default_hooks is before  # it mends once
