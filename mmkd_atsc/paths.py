"""Finds the configs that come with a package."""
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

# Made when the package is installed: copies in a wheel, links in an editable install.
MIM = Path(__file__).resolve().parent / '.mim'
CONFIGS = MIM / 'configs'


def get_package_config(path: str, pretrained: bool = False) -> Config:
    """The config that ``package::path`` names; with ``pretrained``, its ``model_path`` is the zoo's checkpoint."""
    package, _, name = path.partition('::')
    spec = find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.origin:  # MMEngine would install it, unasked
        raise ModuleNotFoundError(f'{path}: there is no package {package!r} here')
    file = Path(spec.origin).parent / '.mim' / 'configs' / name
    if not file.is_file():
        raise FileNotFoundError(f'no such config: {path} ({file})')
    if not pretrained:
        return Config.fromfile(file)
    from mmengine.hub import get_config  # imports PyTorch
    return get_config(path, pretrained)
