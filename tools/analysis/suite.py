"""Runs the trainings of a table: in order, side by side, resumed where they stopped, and never twice."""
import fcntl
import hashlib
import itertools
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mmengine.config import Config, DictAction
from mmengine.logging import MMLogger

from mmkd_atsc.checkpoints.find import find_checkpoint

from .runs import portable
from .summary import DECISIVE
from .training import Stop, Stopped, TrainingFailed, run_training


class Row(NamedTuple):
    """A training.

    Args:
        name: Its name in the table.
        config: Its config file.
        folder: Its work directory in the suite's folder.
        needs: Folders of the rows whose last checkpoints it reads; they come first.
        options: ``--cfg-options``.
        switches: Further arguments of ``tools/train.py``, such as ``--fast``.
    """

    name: str
    config: Path
    folder: str
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    switches: tuple[str, ...] = ()


class Result(NamedTuple):
    """The state of a row: 'done', 'stopped' (to be resumed), 'failed' or 'waiting' (not begun)."""

    row: Row
    state: str
    seconds: float = 0.0


class Failed(RuntimeError):
    """A row failed; the others have been trained. ``results`` holds the state of each."""

    def __init__(self, error: Exception, results: list[Result]) -> None:
        super().__init__(str(error))
        self.results = results


def run_suite(rows: Sequence[Row], out: Path, workers: int = 1, stop: Stop | None = None,
              **environment: str) -> list[Result]:
    """Trains the rows that are not done. If one fails, the others go on and :class:`Failed` is raised at the end.

    Args:
        rows: The trainings, started in this order once their ``needs`` are done.
        out: The suite's folder.
        workers: Trainings at a time; if more than one, each has one CPU thread.
        stop: Stops the rows that train and starts no more.
        environment: Variables for the configs and for the processes.
    """
    with _alone_in(out) as lock:
        return _run_rows(rows, out, workers, stop or Stop(), environment, lock)


@contextmanager
def _alone_in(out: Path) -> Iterator[int]:
    """Locks the suite's folder; its trainings hold the lock too."""
    out.mkdir(parents=True, exist_ok=True)
    with open(out / 'suite.lock', 'a') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f'{out}: another suite trains there, or what one that was killed has left running; wait '
                             'for it, or end its tools/train.py') from None
        yield file.fileno()


def _run_rows(rows: Sequence[Row], out: Path, workers: int, stop: Stop, environment: dict[str, str],
              lock: int) -> list[Result]:
    os.environ.update(environment)  # identity_of reads the configs as the processes do
    MMLogger.get_instance('suite', log_level='WARNING')  # else a line for each variable that is read
    if workers > 1:
        cores = max(1, len(os.sched_getaffinity(0)) // workers)
        environment = dict(environment, OMP_NUM_THREADS='1', TORCHINDUCTOR_COMPILE_THREADS=str(cores))
    folders = {row.folder for row in rows}
    for row in rows:
        if not folders.issuperset(row.needs):
            raise ValueError(f'{row.folder} needs {", ".join(row.needs)}, not all of which are rows')
    results: dict[str, Result] = {}
    waiting, running, errors = list(rows), {}, []
    with ThreadPoolExecutor(workers) as pool:
        while waiting or running:
            before = len(waiting)
            for row in [row for row in waiting if set(row.needs) <= results.keys()]:
                if any(results[name].state != 'done' for name in row.needs):
                    results[row.folder] = Result(row, 'waiting')
                elif len(running) < workers:
                    running[pool.submit(_run, row, out, stop, environment, lock)] = row
                else:
                    break
                waiting.remove(row)
            if not running and len(waiting) == before:
                raise ValueError(f'{", ".join(row.folder for row in waiting)} need each other')
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                row = running.pop(future)
                try:
                    results[row.folder] = future.result()
                except TrainingFailed as error:
                    errors.append(error)
                    results[row.folder] = Result(row, 'failed')
                    if waiting or running:
                        print(f'error: {error}; the other rows go on', flush=True)
    ordered = [results[row.folder] for row in rows]
    if errors:
        raise Failed(errors[0], ordered)
    return ordered


def _run(row: Row, out: Path, stop: Stop, environment: dict[str, str], lock: int) -> Result:
    work_dir, note = out / row.folder, out / row.folder / 'suite.json'
    identity = identity_of(row, out)
    known = json.loads(note.read_text()) if note.is_file() else {}
    same = known.get('identity') == identity
    if same and known.get('finished'):
        return Result(row, 'done', known['seconds'])
    if stop.reached:
        return Result(row, 'stopped' if same else 'waiting', known.get('seconds', 0.0) if same else 0.0)
    if work_dir.is_dir() and not same:
        if not known:
            raise ValueError(f'{work_dir} is there and not of a suite: give another folder, or remove it')
        put_aside(work_dir)  # its log must not be read as this row's
    work_dir.mkdir(parents=True, exist_ok=True)
    before = known.get('seconds', 0.0) if same else 0.0
    _write(note, dict(identity=identity, finished=False, seconds=before))
    print(f'{"going on with" if same else "training"} {row.name} ({row.folder}) ...', flush=True)
    begin, finished = time.monotonic(), True
    try:
        run_training(row.config, work_dir, stop, row.options, row.switches, resume=same, lock=lock,
                     **environment)
    except Stopped:
        finished = False
    seconds = round(before + time.monotonic() - begin, 1)
    _write(note, dict(identity=identity, finished=finished, seconds=seconds))
    return Result(row, 'done' if finished else 'stopped', seconds)


def put_aside(folder: Path) -> Path:
    """Gives a folder the first free name of ``<folder>.old1``, ``.old2``, ..."""
    aside = next(path for number in itertools.count(1) for path in [Path(f'{folder}.old{number}')] if not path.exists())
    print(f'{folder} is of another config or teacher, it is now {aside.name}', flush=True)
    return folder.rename(aside)


def identity_of(row: Row, out: Path) -> str:
    """A digest of a row's config, options and teachers' weights."""
    config = Config.fromfile(row.config)
    config.merge_from_dict(parse_options(row.options))
    decides = portable({key: config.get(key) for key in (*DECISIVE, 'randomness')})
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode())
    digest.update(' '.join(row.switches).encode())
    given = (config.get('model') or {}).get('teacher_ckpt') or []
    given = list(given.values()) if isinstance(given, dict) else [given] if isinstance(given, str) else list(given)
    for checkpoint in [*(str(out / name) for name in row.needs), *given]:
        if '://' not in checkpoint:
            digest.update(hashlib.sha256(find_checkpoint(checkpoint).read_bytes()).digest())
    return digest.hexdigest()


def parse_options(options: Sequence[str]) -> dict:
    """``KEY=VALUE`` words as MMEngine reads them.

    >>> parse_options(['randomness.seed=1', 'a=[1,2]'])
    {'randomness.seed': 1, 'a': [1, 2]}
    """
    return {key: DictAction._parse_iterable(value) for key, value in (word.split('=', 1) for word in options)}


def _write(path: Path, content: dict) -> None:
    aside = path.with_suffix('.new')
    aside.write_text(json.dumps(content))
    aside.replace(path)
