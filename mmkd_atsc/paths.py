"""Where the configs that come with a package are."""
import re
from importlib.util import find_spec
from pathlib import Path

from mmengine.config import Config

# Made when the package is installed: copies in a wheel, links in an editable install.
MIM = Path(__file__).resolve().parent / '.mim'
CONFIGS = MIM / 'configs'


def get_package_config(path: str, pretrained: bool = False) -> Config:
    """The config that ``package::path`` names.

    A package that is not there is an error here. MMEngine would install it, unasked.

    >>> get_package_config('mmkd_atsc::demo/student_digits.py').model.head.num_classes
    10
    """
    package = path.split('::')[0]
    if not package.isidentifier() or find_spec(package) is None:
        raise ModuleNotFoundError(f'{path}: there is no package {package!r} here')
    if not re.fullmatch(r'\w+::\w+/.+', path):
        raise ValueError(f'{path}: a config of a package is named package::folder/config.py')
    from mmengine.hub import get_config
    try:
        return get_config(path, pretrained)
    except FileNotFoundError:
        raise FileNotFoundError(f'no such config: {path}') from None
