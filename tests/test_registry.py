"""Every type resolves by its prefix from a plain config, in a process that never imported the plugin."""
import subprocess
import sys

TYPES = [('MODELS', 'MultiTeacherDistill'), ('MODELS', 'CIFARResNet'), ('DATASETS', 'Digits'),
         ('OPTIM_WRAPPER_CONSTRUCTORS', 'DistillOptimWrapperConstructor')]


def test_types_resolve_without_custom_imports():
    code = (f'from mmengine.registry import *; import mmengine.registry as r\n'
            f'r.init_default_scope("mmrazor")\n'
            f'for registry, name in {TYPES!r}:\n'
            f'    found = getattr(r, registry).get("mmkd_atsc." + name)\n'
            f'    assert found is not None and found.__name__ == name, name\n')
    done = subprocess.run([sys.executable, '-c', code], text=True, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr


def test_each_root_registry_has_our_child():
    from mmengine import registry as roots

    from mmkd_atsc import registry as ours
    names = [name for name, value in vars(ours).items() if isinstance(value, roots.Registry)]
    assert len(names) > 15
    for name in names:
        assert getattr(ours, name).parent is getattr(roots, name) and getattr(ours, name).scope == 'mmkd_atsc'
