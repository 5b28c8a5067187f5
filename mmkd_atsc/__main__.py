"""``python -m mmkd_atsc`` prints the environment and what is wrong with it, one line each."""
import importlib
import platform
import sys
from collections.abc import Callable
from importlib import metadata

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


def _find_devices() -> str:
    import torch
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ', '.join(gpus) or f'no GPU, {torch.get_num_threads()} CPU threads'


def _import_mmrazor() -> None:
    importlib.import_module('mmkd_atsc.compat').apply_all()
    importlib.import_module('mmrazor.models')


def _resolve_types() -> None:
    from mmengine.registry import MODELS
    for name in ('mmkd_atsc.CIFARResNet', 'mmpretrain.ImageClassifier', 'mmrazor.ConfigurableDistiller'):
        if MODELS.get(name) is None:
            raise LookupError(f'{name} is not found from the root registry')


def _find_configs() -> None:
    from .paths import CONFIGS
    if not CONFIGS.is_dir():
        raise FileNotFoundError(f'{CONFIGS} is missing: reinstall with pip install . (or -e .)')


CHECKS: tuple[tuple[str, Callable[[], str | None]], ...] = (
    ('torch imports', _find_devices),
    ('mmrazor imports', _import_mmrazor),
    ('types resolve by their prefix', _resolve_types),
    ('configs are where mmkd_atsc:: looks', _find_configs),
)


def main() -> int:
    print(f'python      {platform.python_version()} on {platform.platform()}')
    for name, _, _ in STACK:
        print(f'{name:<11} {installed(name) or "not installed"}')
    problems = check_versions()
    for what, check in CHECKS:
        try:
            found = check()
            print(f'ok          {what}' + (f': {found}' if found else ''))
        except Exception as error:  # a broken stack can fail in any way; the line names it
            problems.append(f'{what}: no ({type(error).__name__}: {" ".join(str(error).split())[:200]})')
    for problem in problems:
        print(f'wrong       {problem}')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
