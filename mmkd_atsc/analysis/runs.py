"""What a run wrote: MMEngine's JSON lines."""
import json
from pathlib import Path
from typing import Dict, List, Tuple, Union


def read_scalars(work_dir: Union[str, Path]) -> List[Dict]:
    """All logged lines of a run in order, a resumed run's later parts after the earlier ones."""
    files = sorted(Path(work_dir).glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(f'{work_dir}: no log of a run (<time>/vis_data/scalars.json)')
    return [json.loads(line) for file in files for line in file.read_text().splitlines() if line.strip()]


def find_metric(scalars: List[Dict], name: str) -> List[Tuple[int, float]]:
    """``(epoch, value)`` of a validation metric; a student's own (``student/...``) goes before a bare one.

    An epoch that was validated twice, before and after a resume, counts once, the later one.

    >>> find_metric([{'accuracy/top1': 50.0, 'step': 1}, {'loss': 0.1, 'step': 9}], 'accuracy/top1')
    [(1, 50.0)]
    """
    keys = [key for key in (f'student/{name}', name) if any(key in line for line in scalars)]
    if not keys:
        raise ValueError(f'the log has no {name}; it has {", ".join(sorted({k for line in scalars for k in line}))}')
    points = {line['step']: line[keys[0]] for line in scalars if keys[0] in line}
    return sorted(points.items())
