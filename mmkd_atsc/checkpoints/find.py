"""Finds the checkpoint file that a name stands for: a file, the folder of a training, or what this package brings."""
import re
from pathlib import Path

from mmkd_atsc.errors.checks import nearest
from mmkd_atsc.paths import CONFIGS

# As in ``_base_``: what follows lies among this package's configs.
BUNDLED = 'mmkd_atsc::'
NUMBERED = re.compile(r'(?:epoch|iter)_(\d+)\.pth')


def find_checkpoint(name: str) -> Path:
    """The file that ``name`` stands for: a file, a folder, or ``mmkd_atsc::weights/...`` of this package.

    A folder stands for the last checkpoint of its training: the one that its file ``last_checkpoint`` names (the folder
    may have been moved since); else ``epoch_N.pth`` or ``iter_N.pth`` with the highest N; else its only ``*.pth``.

    >>> find_checkpoint('mmkd_atsc::weights/short_resnet20').name
    'epoch_12.pth'
    """
    path = CONFIGS / name[len(BUNDLED):] if name.startswith(BUNDLED) else Path(name).expanduser()
    if path.is_dir():
        return _last_checkpoint(path, name)
    if not path.is_file():
        raise FileNotFoundError(f'{name}: no such checkpoint ({path.absolute()}){_advice(path, name)}')
    return path


def _last_checkpoint(folder: Path, name: str) -> Path:
    note = folder / 'last_checkpoint'
    named = note.read_text().strip() if note.is_file() else ''
    files = sorted(folder.glob('*.pth'))
    numbered = {int(match.group(1)): file for file in files if (match := NUMBERED.fullmatch(file.name))}
    candidates = [folder / Path(named).name, Path(named)] if named else []
    candidates += [numbered[max(numbered)]] if numbered else files if len(files) == 1 else []
    found = next((file for file in candidates if file.is_file()), None)
    if found is None:
        which = ', '.join(file.name for file in files)
        raise FileNotFoundError(f'{name}: which of {which} is meant? name the file' if files else
                                f'{name}: is a folder without a checkpoint{_advice(folder, name)}')
    return found


def _advice(missing: Path, name: str) -> str:
    """The command that trains it or the nearest name, and what is there without training."""
    if missing.suffix and not missing.parent.is_dir():
        missing, name = missing.parent, str(Path(name).parent)  # a checkpoint of a training that has not been
    run, _, seed = missing.name.partition('_seed')
    configs = [path for path in CONFIGS.glob('*/*.py') if path.stem == run]
    advice = ''
    if not name.startswith(BUNDLED):
        advice = nearest(missing.name, (path.name for path in missing.parent.glob('*')))
        if len(configs) == 1:
            advice = (f'; to train it: python tools/train.py configs/{configs[0].relative_to(CONFIGS).as_posix()} '
                      f'--work-dir {name}{f" --seed {seed}" if seed else ""}')
        elif missing.suffix:
            return advice
    bundled = sorted({f'{BUNDLED}{file.parent.relative_to(CONFIGS).as_posix()}' for file in CONFIGS.rglob('*.pth')})
    return f'{advice}; this package brings {", ".join(bundled) or "nothing: install it"}'
