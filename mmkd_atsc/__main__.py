"""``python -m mmkd_atsc`` prints the environment and what is wrong with it, one line each.

``python -m mmkd_atsc SCRIPT [ARGS ...]`` runs a script, MMRazor's or MMPretrain's ``tools/train.py`` for example, with
this package imported.
"""
import os
import platform
import runpy
import sys
from importlib import metadata
from pathlib import Path

from .launch import die_with_launcher

TYPES = ('mmrazor.ConfigurableDistiller', 'mmpretrain.ImageClassifier', 'mmkd_atsc.CIFARResNet')


def installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ''


def requirements() -> dict[str, str]:
    """The packages that this one was installed with, and the versions that work together."""
    from packaging.requirements import Requirement
    lines = metadata.requires('mmkd_atsc') if installed('mmkd_atsc') else []
    needed = [Requirement(line) for line in lines or []]
    found = {one.name: str(one.specifier) for one in needed if one.marker is None}
    # mmcv-lite and full mmcv are the same module. Full mmcv is kept where it is in use.
    return {'mmcv' if name == 'mmcv-lite' and not installed(name) and installed('mmcv') else name: versions
            for name, versions in found.items()}


def find_devices() -> str:
    """Imports everything, looks for types and configs, and describes the devices."""
    import torch
    from mmengine.registry import MODELS

    from .paths import CONFIGS
    missing = [name for name in TYPES if MODELS.get(name) is None]
    if missing:
        raise LookupError(f'{", ".join(missing)}: not found from the root registry')
    if not CONFIGS.is_dir():
        raise FileNotFoundError(f'{CONFIGS} is missing: reinstall with pip install . (or -e .)')
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return ', '.join(gpus) or f'no GPU, {torch.get_num_threads()} CPU threads'


def report() -> int:
    """Prints the versions before it imports PyTorch and MMRazor, which takes seconds."""
    from packaging.specifiers import SpecifierSet
    print(f'python      {platform.python_version()} on {platform.platform()}')
    problems = []
    for name, versions in requirements().items():
        version = installed(name)
        print(f'{name:<11} {version or "not installed"}', flush=True)
        if not version or not SpecifierSet(versions).contains(version, prereleases=True):
            problems.append(f'{name} {f"{version} does not work here" if version else "is not installed"}; '
                            f'pip install "{name}{versions}"')
    try:
        print(f'ok          all packages import, types and configs are found; {find_devices()}')
    except Exception as error:  # a broken stack can fail in any way; the line names it
        problems.append(f'{type(error).__name__}: {" ".join(str(error).split())[:200]}')
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
    if sys.argv[1] in ('-h', '--help'):
        print(__doc__)
    else:
        die_with_launcher()
        run_script(sys.argv[1], sys.argv[2:])
