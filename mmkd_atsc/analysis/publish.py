"""A run's log as it is committed beside the configs: small, and without the paths of a machine."""
import gzip
import json
from pathlib import Path
from typing import Union

from mmengine.config import Config

from .runs import read_config, read_environment, read_scalars
from .summary import portable


def publish_log(work_dir: Union[str, Path], out_dir: Union[str, Path]) -> Path:
    """Writes ``scalars.json.gz``, ``config.py`` and ``environment.json``, which the tools of this package read.

    Numbers keep six digits. Absolute paths in the config keep their last two parts.

    Args:
        work_dir: A run's work directory (or a published log).
        out_dir: Where to write; what is there by these names is replaced.
    """
    scalars, config, environment = read_scalars(work_dir), read_config(work_dir).to_dict(), read_environment(work_dir)
    for name in ('work_dir', 'resume', 'load_from'):
        config.pop(name, None)
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    text = ''.join(json.dumps({key: _rounded(value) for key, value in line.items()}) + '\n' for line in scalars)
    # No time and no file name in the header: the same log gives the same file.
    (out_dir / 'scalars.json.gz').write_bytes(gzip.compress(text.encode(), mtime=0))
    Config(portable(config)).dump(out_dir / 'config.py')
    (out_dir / 'environment.json').write_text(json.dumps(environment, indent=2) + '\n')
    return out_dir


def _rounded(value: object) -> object:
    return float(f'{value:.6g}') if isinstance(value, float) else value
