"""Runs of ``tools/train.py`` from a script."""
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Optional, Sequence, Union

# In a wheel the tools lie beside the configs inside the package, in an editable install this is a link to the clone's.
TRAIN = Path(__file__).resolve().parent.parent / '.mim' / 'tools' / 'train.py'


class OutOfTime(Exception):
    """A training was stopped at its deadline; it goes on from its last checkpoint."""


def run_training(config: Union[str, Path], work_dir: Path, options: Sequence[str] = (), resume: bool = False,
                 deadline: Optional[float] = None, lock: Optional[int] = None, **environment: str) -> None:
    """Trains a config in a process of its own; what it prints goes to ``output.log`` in the work directory.

    Args:
        config: The config file.
        work_dir: Where logs and checkpoints go.
        options: As after ``--cfg-options``.
        resume: Go on from the last checkpoint there, if there is one.
        deadline: When it is stopped, by ``time.monotonic()``; :class:`OutOfTime` is raised then. None: never.
        lock: A descriptor that stays open in the process.
        environment: Variables for the process.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(TRAIN), str(config), '--work-dir', str(work_dir)]
    command += ['--resume'] * resume + (['--cfg-options', *options] if options else [])
    left = None if deadline is None else max(deadline - time.monotonic(), 0)
    with open(work_dir / 'output.log', 'w') as log:
        try:
            done = subprocess.run(command, env=dict(os.environ, **environment), stdout=log, stderr=subprocess.STDOUT,
                                  timeout=left, pass_fds=() if lock is None else (lock, ))
        except subprocess.TimeoutExpired:
            raise OutOfTime(f'{config}: stopped at its deadline') from None
    if done.returncode:
        lines = (work_dir / 'output.log').read_text().splitlines()
        why = next((line for line in reversed(lines) if line.startswith('error')), 'see there')
        raise RuntimeError(f'training {config} failed, its output is in {work_dir / "output.log"}: {why}')
