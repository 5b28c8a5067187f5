"""What a run wrote, in its work directory or published: the lines of its log, its config, where it ran.

A published log is a folder with ``scalars.json.gz`` (or ``scalars.json``) and ``config.py``.
"""
import gzip
import json
import re
from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

from mmengine.config import Config

PUBLISHED = ('scalars.json.gz', 'scalars.json')

# What MMEngine calls it at the top of its text log, and what environment.json does.
ENVIRONMENT = {'Python': 'python', 'PyTorch': 'torch', 'TorchVision': 'torchvision', 'MMEngine': 'mmengine',
               'Distributed launcher': 'launcher', 'GPU number': 'processes'}


def find_published(run: Union[str, Path]) -> List[Path]:
    """The log of a published run, no file where the folder is none."""
    return [Path(run, name) for name in PUBLISHED if Path(run, name).is_file()][:1]


def find_logs(run: Union[str, Path]) -> List[Path]:
    """The logs of a run, a resumed run's later ones after the earlier; of several runs, those of the last."""
    files = find_published(run) or sorted(Path(run).glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(f'{run}: no log of a run (<time>/vis_data/scalars.json, or a published scalars.json.gz)'
                                if Path(run).is_dir() else f'{run}: no such folder')
    return files[max((n for n in range(1, len(files)) if _begins_anew(files[n], files[n - 1])), default=0):]


def _begins_anew(log: Path, earlier: Path) -> bool:
    """Whether a log begins one logging interval after the start; a resumed run's begins later."""
    lines, before = ([line for line in _read_lines(file) if is_training(line)] for file in (log, earlier))
    if not lines or lines[0].get('epoch', 1) > 1:
        return False
    first = lines[0]['step']
    interval = lines[1]['step'] - first if len(lines) > 1 else before[0]['step'] if before else 0
    return first <= interval


def read_scalars(run: Union[str, Path]) -> List[Dict]:
    """All logged lines of a run in order, a resumed run's later parts after the earlier ones."""
    return _by_iterations([line for file in find_logs(run) for line in _read_lines(file)])


def _by_iterations(lines: List[Dict]) -> List[Dict]:
    """Lines without the one epoch that is MMEngine's loop by iterations, and whose validations it gives the step 0.

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


def _read_lines(file: Path) -> List[Dict]:
    try:
        with gzip.open(file, 'rt') if file.suffix == '.gz' else file.open() as stream:
            lines = stream.read().split('\n')
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise ValueError(f'{file}: is not a whole log ({error})') from None
    parsed = []
    for number, line in enumerate(lines, start=1):
        try:
            parsed += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError:
            if number < len(lines):  # the last line of a process that was killed while it wrote may be half a line
                raise ValueError(f'{file}: line {number} is no JSON: {line[:60]!r}') from None
    return parsed


def is_training(line: Dict) -> bool:
    """Whether a line is of training iterations, and its ``step`` a number of them; else it is of a validation."""
    return 'iter' in line


def find_curve(scalars: List[Dict], key: str, training: bool = False) -> List[Tuple[int, float]]:
    """``(step, value)`` of a key, from training's lines or from validation's; what was done again counts once.

    >>> lines = [{'loss': 3.0, 'iter': 5, 'step': 5}, {'loss': 2.0, 'iter': 9, 'step': 9}]
    >>> find_curve([*lines, {'loss': 2.5, 'iter': 9, 'step': 9}], 'loss', training=True)
    [(5, 3.0), (9, 2.5)]
    """
    lines = [line for line in scalars if key in line and is_training(line) == training]
    return sorted({line['step']: line[key] for line in lines}.items())


def find_metric(scalars: List[Dict], name: str) -> List[Tuple[int, float]]:
    """``(epoch, value)`` of a validation metric; a student's own (``student/...``) goes before a bare one.

    An epoch that was validated twice, before and after a resume, counts once, the later one.

    >>> find_metric([{'accuracy/top1': 50.0, 'step': 1}, {'loss': 0.1, 'step': 9}], 'accuracy/top1')
    [(1, 50.0)]
    """
    curves = [curve for curve in (find_curve(scalars, key) for key in (f'student/{name}', name)) if curve]
    if not curves:
        raise ValueError(f'the log has no {name}; it has {", ".join(sorted({k for line in scalars for k in line}))}')
    return curves[0]


def read_config(run: Union[str, Path]) -> Config:
    """The config that a run was trained with; a resumed run's is the last."""
    published = find_published(run)
    files = [Path(run, 'config.py')] if published else [log.with_name('config.py') for log in find_logs(run)]
    found = [file for file in files if file.is_file()]
    if not found:
        raise FileNotFoundError(f'{files[-1]}: no such file; without its config a run cannot be told from others')
    return Config.fromfile(found[-1])


def read_environment(run: Union[str, Path]) -> Dict[str, Any]:
    """Where a run was trained, as far as it is known: versions, device, the number of processes, the config's name.

    Of a work directory it is what MMEngine wrote at the top of the text log (``log_level='INFO'``).
    """
    if find_published(run):
        file = Path(run, 'environment.json')
        return json.loads(file.read_text()) if file.is_file() else {}
    # MMEngine puts the config there under its own name.
    configs = [file.stem for file in sorted(Path(run).glob('*.py'))]
    environment: Dict[str, Any] = dict(config=configs[0]) if len(configs) == 1 else {}
    for folder in sorted({log.parent.parent for log in find_logs(run)}):
        for log in sorted(folder.glob('*.log')):
            environment.update(parse_environment(log.read_text(errors='replace')))
    return environment


def parse_environment(text: str) -> Dict[str, Any]:
    """What MMEngine's text log says of versions and devices, at its top and before the first step.

    >>> parse_environment('Python: 3.11.7 (main) [GCC]\\n    GPU 0,1: NVIDIA H200\\n    GPU number: 2\\n' + '-' * 60)
    {'device': 'NVIDIA H200', 'python': '3.11.7', 'processes': 2}
    >>> parse_environment('... - INFO - packages: mmpretrain 1.2.0, mmrazor 1.0.0; threads: 2\\n')
    {'mmpretrain': '1.2.0', 'mmrazor': '1.0.0', 'threads': 2}
    """
    top = text.split(' - INFO - Config:')[0]
    found = dict(re.findall(r'^\s*([^:\n]+): (.*)$', top, flags=re.M))
    gpus = [value for name, value in found.items() if re.fullmatch(r'GPU [\d,]+', name)]
    environment: Dict[str, Any] = {}
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


def portable(value: Any) -> Any:
    """A copy in plain types, without where the data lie; of absolute paths the run's name stays, and a file's in it.

    >>> portable(dict(teacher_ckpt='/home/me/work_dirs/resnet110', data_root='data/cifar100'))
    {'teacher_ckpt': 'resnet110'}
    >>> portable('/home/me/work_dirs/resnet110/epoch_240.pth')
    'resnet110/epoch_240.pth'
    """
    if isinstance(value, str) and value.startswith('/'):
        return '/'.join(Path(value).parts[1:][-2 if Path(value).suffix else -1:])
    if isinstance(value, dict):
        return {key: portable(inner) for key, inner in value.items() if key != 'data_root'}
    return type(value)(map(portable, value)) if isinstance(value, (list, tuple)) else value
