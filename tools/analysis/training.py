"""Runs ``tools/train.py`` from a script."""
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

TRAIN = Path(__file__).resolve().parents[1] / 'train.py'


class Stop:
    """Ends trainings early: after some seconds, or when ``now()`` is called.

    >>> stop = Stop()
    >>> stop.reached, stop.now(), stop.reached
    (False, None, True)
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._end = float('inf') if seconds is None else time.monotonic() + seconds
        self._signal: int | None = None

    def now(self, by_signal: int | None = None) -> None:
        self._end, self._signal = float('-inf'), by_signal

    @property
    def reached(self) -> bool:
        return time.monotonic() >= self._end

    @contextmanager
    def by_signals(self) -> Iterator['Stop']:
        """In this block SIGTERM, SIGHUP and Ctrl-C call ``now()``; after the block the signal ends this process.

        A signal that is ignored (nohup) stays ignored.
        """
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
        for number in before:
            signal.signal(number, lambda number, _: self.now(number))
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if self._signal:
                with suppress(OSError):  # the terminal may be closed
                    sys.stdout.flush()
                signal.signal(self._signal, signal.SIG_DFL)
                os.kill(os.getpid(), self._signal)


class Stopped(Exception):
    """A training was stopped early; it can go on from its last checkpoint."""


class TrainingFailed(RuntimeError):
    """A training ended with an error."""


def run_training(config: str | Path, work_dir: Path, stop: Stop, options: Sequence[str] = (),
                 switches: Sequence[str] = (), resume: bool = False, lock: int | None = None,
                 **environment: str) -> None:
    """Trains a config in its own process; its output goes to ``output.log`` in the work directory.

    Args:
        config: The config file.
        work_dir: Folder of logs and checkpoints.
        stop: Ends it early; :class:`Stopped` is raised then.
        options: ``--cfg-options``.
        switches: Further arguments, such as ``--fast``.
        resume: Go on from the last checkpoint, if there is one.
        lock: A descriptor that stays open in the process.
        environment: Variables for the process.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(TRAIN), str(config), '--work-dir', str(work_dir)]
    command += [*switches, *['--resume'] * resume] + (['--cfg-options', *options] if options else [])
    with open(work_dir / 'output.log', 'w') as log:
        process = subprocess.Popen(command, env=dict(os.environ, **environment), stdout=log, stderr=subprocess.STDOUT,
                                   pass_fds=() if lock is None else (lock, ))
        try:
            while process.poll() is None and not stop.reached:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
        finally:
            process.kill()  # nothing, if it has ended
            process.wait()
    if process.returncode and stop.reached:  # Ctrl-C ends it by itself
        raise Stopped(f'{config}: stopped before it was done')
    if process.returncode:
        lines = (work_dir / 'output.log').read_text().splitlines()
        why = next((line for line in reversed(lines) if line.startswith('error')), 'see there')
        raise TrainingFailed(f'training {config} failed, its output is in {work_dir / "output.log"}: {why}')
