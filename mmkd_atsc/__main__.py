"""``python -m mmkd_atsc`` prints the environment and what is wrong with it, one line each.

``python -m mmkd_atsc SCRIPT [ARGS ...]`` runs a script, MMRazor's or MMPretrain's ``tools/train.py`` for example, with
this package imported.
"""
import importlib
import os
import platform
import runpy
import sys
from importlib import metadata
from pathlib import Path

from .launch import die_with_launcher

# distribution, lowest and first unsupported version of what was measured to work together
STACK = (
    ('torch', '2.6', None), ('torchvision', None, None), ('mmengine', '0.10.7', '0.11'), ('mmcv', '2.0.0', '2.1.1'),
    ('mmpretrain', '1.2.0', '1.2.1'), ('mmrazor', '1.0.0', '1.0.1'), ('setuptools', None, '82'), ('joblib', None, None),
    ('safetensors', None, None), ('numpy', None, None),
)


def installed(name: str) -> str:
    """The version of a distribution, '' if it is not there; full mmcv and mmcv-lite are the same module."""
    for candidate in ((name, 'mmcv-lite') if name == 'mmcv' else (name,)):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return ''


def check_versions() -> list[str]:
    """One line for each package that is missing or outside the range that works."""
    from packaging.version import Version
    problems = []
    for name, low, high in STACK:
        version = installed(name)
        wanted = ','.join(filter(None, [low and f'>={low}', high and f'<{high}']))
        if not version:
            # Full mmcv is compiled for hours where there is no wheel of it, and no classifier needs its operators.
            package = 'mmcv-lite' if name == 'mmcv' else name
            problems.append(f'{name} is not installed; pip install "{package}{wanted}"')
        elif (low and Version(version) < Version(low)) or (high and Version(version) >= Version(high)):
            problems.append(f'{name} {version} does not work here; pip install "{name}{wanted}"')
    return problems


def find_devices() -> str:
    import torch
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ', '.join(gpus) or f'no GPU, {torch.get_num_threads()} CPU threads'


def import_mmrazor() -> None:
    importlib.import_module('mmrazor.models')


def resolve_types() -> None:
    from mmengine.registry import MODELS
    for name in ('mmkd_atsc.CIFARResNet', 'mmpretrain.ImageClassifier', 'mmrazor.ConfigurableDistiller'):
        if MODELS.get(name) is None:
            raise LookupError(f'{name} is not found from the root registry')


def find_configs() -> None:
    from .paths import CONFIGS
    if not CONFIGS.is_dir():
        raise FileNotFoundError(f'{CONFIGS} is missing: reinstall with pip install . (or -e .)')


CHECKS = (('torch imports', find_devices), ('mmrazor imports', import_mmrazor),
          ('types resolve by their prefix', resolve_types), ('configs are where mmkd_atsc:: looks', find_configs))


def report() -> int:
    """Prints versions at once, then each check as it is done; importing PyTorch and MMRazor takes seconds."""
    print(f'python      {platform.python_version()} on {platform.platform()}')
    for name, _, _ in STACK:
        print(f'{name:<11} {installed(name) or "not installed"}', flush=True)
    problems = check_versions()
    for what, check in CHECKS:
        try:
            found = check()
            print(f'ok          {what}' + (f': {found}' if found else ''), flush=True)
        except Exception as error:  # a broken stack can fail in any way; the line names it
            problems.append(f'{what}: no ({type(error).__name__}: {" ".join(str(error).split())[:200]})')
    for problem in problems:
        print(f'wrong       {problem}')
    return 1 if problems else 0


def run_script(script: str, args: list[str]) -> None:
    """Runs a script as Python does: with its arguments, and finding the modules beside it."""
    if not Path(script).is_file():
        sys.exit(f'error: no such script: {os.path.abspath(script)}')
    sys.argv = [script, *args]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name='__main__')


if __name__ == '__main__':
    if len(sys.argv) == 1:
        sys.exit(report())
    die_with_launcher()
    run_script(sys.argv[1], sys.argv[2:])
