"""Reads the log, the config and the environment of a run; publishes them as one file.

A published log ``NAME.json.gz`` is an object with ``environment``, ``config`` and ``scalars``.
"""
import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

from mmengine.config import Config

PUBLISHED = '.json.gz'
BUNDLED_WEIGHTS = 'mmkd_atsc::weights/'
NO_RESULT = ('data_root', 'persistent_workers')  # settings that change no result

# Names at the top of MMEngine's text log, and ours.
ENVIRONMENT = {'Python': 'python', 'PyTorch': 'torch', 'TorchVision': 'torchvision', 'MMEngine': 'mmengine',
               'Distributed launcher': 'launcher', 'GPU number': 'processes'}


def read_published(file: str | Path) -> dict[str, Any]:
    """The content of a published log."""
    try:
        with gzip.open(file, 'rt', encoding='utf-8') as stream:
            content = json.load(stream)
    except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:  # bad JSON, or no text
        raise ValueError(f'{file}: is not a whole log ({error})') from None
    if not isinstance(content, dict) or not {'environment', 'config', 'scalars'} <= content.keys():
        raise ValueError(f'{file}: is not a log that compare.py --publish has written')
    return content


def find_logs(run: str | Path) -> list[Path]:
    """The logs of the last run in a work directory, in order; a resumed run has several."""
    files = sorted(Path(run).glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(f'{run}: no log of a run (<time>/vis_data/scalars.json)' if Path(run).is_dir() else
                                f'{run}: no such folder or published log')
    return files[max((n for n in range(1, len(files)) if _begins_anew(files[n], files[n - 1])), default=0):]


def _begins_anew(log: Path, earlier: Path) -> bool:
    """Whether a log begins one logging interval after the start; a resumed run's begins later."""
    lines, before = ([line for line in _read_lines(file) if is_training(line)] for file in (log, earlier))
    if not lines or lines[0].get('epoch', 1) > 1:
        return False
    first = lines[0]['step']
    interval = lines[1]['step'] - first if len(lines) > 1 else before[0]['step'] if before else 0
    return first <= interval


def read_scalars(run: str | Path) -> list[dict]:
    """All logged lines of a run in order, a resumed run's later parts after the earlier ones."""
    if Path(run).is_file():
        return read_published(run)['scalars']
    return _by_iterations([line for file in find_logs(run) for line in _read_lines(file)])


def _by_iterations(lines: list[dict]) -> list[dict]:
    """Removes the epoch 1 that MMEngine logs in a loop by iterations, and gives its validations their step.

    >>> _by_iterations([{'epoch': 1, 'iter': 50, 'step': 50}, {'accuracy/top1': 9.0, 'step': 0}])
    [{'iter': 50, 'step': 50}, {'accuracy/top1': 9.0, 'step': 50}]
    """
    validated = {line['step'] for line in lines if not is_training(line)}
    if validated <= {1} or any(line.get('epoch', 1) > 1 for line in lines):
        return lines
    counted, done = [], 0
    for line in lines:
        done = line['step'] if is_training(line) else done
        counted.append({key: value for key, value in dict(line, step=line['step'] or done).items() if key != 'epoch'})
    return counted


def _read_lines(file: Path) -> list[dict]:
    lines, parsed = file.read_text().split('\n'), []
    for number, line in enumerate(lines, start=1):
        try:
            parsed += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError:
            if number < len(lines):  # the last line of a process that was killed while it wrote may be half a line
                raise ValueError(f'{file}: line {number} is no JSON: {line[:60]!r}') from None
    return parsed


def is_training(line: dict) -> bool:
    """Whether a line is of training, its ``step`` counting iterations; else it is of a validation."""
    return 'iter' in line


def find_curve(scalars: list[dict], key: str, training: bool = False) -> list[tuple[int, float]]:
    """``(step, value)`` of a key in the lines of training or of validation; of a repeated step the last counts.

    >>> lines = [{'loss': 3.0, 'iter': 5, 'step': 5}, {'loss': 2.0, 'iter': 9, 'step': 9}]
    >>> find_curve([*lines, {'loss': 2.5, 'iter': 9, 'step': 9}], 'loss', training=True)
    [(5, 3.0), (9, 2.5)]
    """
    lines = [line for line in scalars if key in line and is_training(line) == training]
    return sorted({line['step']: line[key] for line in lines}.items())


def find_metric(scalars: list[dict], name: str) -> list[tuple[int, float]]:
    """``(epoch, value)`` of a validation metric; ``student/NAME`` goes before a bare ``NAME``.

    >>> find_metric([{'accuracy/top1': 50.0, 'step': 1}, {'loss': 0.1, 'step': 9}], 'accuracy/top1')
    [(1, 50.0)]
    """
    curves = [curve for curve in (find_curve(scalars, key) for key in (f'student/{name}', name)) if curve]
    if not curves:
        raise ValueError(f'the log has no {name}; it has {", ".join(sorted({k for line in scalars for k in line}))}')
    return curves[0]


def read_config(run: str | Path) -> Config:
    """The config that a run was trained with; a resumed run's is the last."""
    if Path(run).is_file():
        return Config(read_published(run)['config'])
    files = [log.with_name('config.py') for log in find_logs(run)]
    found = [file for file in files if file.is_file()]
    if not found:
        raise FileNotFoundError(f'{files[-1]}: no such file; without its config a run cannot be told from others')
    return Config.fromfile(found[-1], import_custom_modules=False)


def read_environment(run: str | Path) -> dict[str, Any]:
    """Versions, device, number of processes and name of the config, as far as the text log says."""
    if Path(run).is_file():
        return read_published(run)['environment']
    # MMEngine puts the config there under its own name.
    configs = [file.stem for file in sorted(Path(run).glob('*.py'))]
    environment: dict[str, Any] = dict(config=configs[0]) if len(configs) == 1 else {}
    for folder in sorted({log.parent.parent for log in find_logs(run)}):
        for log in sorted(folder.glob('*.log')):
            environment.update(parse_environment(log.read_text(errors='replace')))
    return environment


def parse_environment(text: str) -> dict[str, Any]:
    """Reads versions and devices from MMEngine's text log.

    >>> parse_environment('Python: 3.11.7 (main) [GCC]\\n    GPU 0,1: NVIDIA H200\\n    GPU number: 2\\n' + '-' * 60)
    {'device': 'NVIDIA H200', 'python': '3.11.7', 'processes': 2}
    >>> parse_environment('... - INFO - packages: mmpretrain 1.2.0, mmrazor 1.0.0; threads: 2\\n')
    {'mmpretrain': '1.2.0', 'mmrazor': '1.0.0', 'threads': 2}
    """
    top = text.split(' - INFO - Config:')[0]
    found = dict(re.findall(r'^\s*([^:\n]+): (.*)$', top, flags=re.M))
    gpus = [value for name, value in found.items() if re.fullmatch(r'GPU [\d,]+', name)]
    environment: dict[str, Any] = {}
    if gpus or 'CUDA available' in found:
        environment['device'] = ', '.join(gpus) or 'CPU'
    environment.update((ours, found[theirs].split()[0]) for theirs, ours in ENVIRONMENT.items() if found.get(theirs))
    if str(environment.get('processes')).isdigit():
        environment['processes'] = int(environment['processes'])
    packages = re.search(r' - INFO - packages: (.*); threads: (\d+)$', text, flags=re.M)
    if packages:
        environment.update(package.split() for package in packages.group(1).split(', '))
        environment['threads'] = int(packages.group(2))
    return environment


def publish_log(run: str | Path, file: str | Path) -> Path:
    """Writes a run's log to ``NAME.json.gz``, to be committed: numbers of six digits, no paths of a machine.

    Args:
        run: A work directory, or a published log.
        file: Is replaced if it exists.
    """
    config = read_config(run).to_dict()
    for name in ('work_dir', 'resume', 'load_from'):
        config.pop(name, None)
    scalars = [{key: float(f'{value:.6g}') if isinstance(value, float) else value for key, value in line.items()}
               for line in read_scalars(run)]
    text = json.dumps(dict(environment=read_environment(run), config=portable(config), scalars=scalars), indent=1)
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    # No time and no file name in the header: the same log gives the same file.
    file.write_bytes(gzip.compress(text.encode(), mtime=0))
    return file


def portable(value: Any) -> Any:
    """A copy for JSON without ``NO_RESULT``; absolute paths keep the name of the run and of a file in it.

    Weights of the package get the name that a user's own training by the same config has.

    >>> portable(dict(teacher_ckpt='/home/me/work_dirs/resnet110', data_root='data/cifar100'))
    {'teacher_ckpt': 'resnet110'}
    >>> portable('mmkd_atsc::weights/resnet110')
    'resnet110'
    >>> portable('/home/me/work_dirs/resnet110/epoch_240.pth')
    'resnet110/epoch_240.pth'
    """
    if isinstance(value, str) and value.startswith(BUNDLED_WEIGHTS):
        return value[len(BUNDLED_WEIGHTS):]
    if isinstance(value, str) and value.startswith('/'):
        return '/'.join(Path(value).parts[1:][-2 if Path(value).suffix else -1:])
    if isinstance(value, dict):
        return {key: portable(inner) for key, inner in value.items() if key not in NO_RESULT}
    return [portable(inner) for inner in value] if isinstance(value, (list, tuple)) else value
