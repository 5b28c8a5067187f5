"""Kills trainings at random moments, resumes them, and checks that they end as if nothing had happened.

    python tests/faults/run.py --kills 50

Every other kill waits for a moment in which a checkpoint is being written. A training that is through is compared,
weights, optimizer, schedules and random numbers bit for bit, with one that was never stopped; then the next begins,
with another method; ``--method stock`` kills a config of MMPretrain's with our parts mixed in. The exit code is 1 if
any differs, or does not resume.
"""
import argparse
import itertools
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # run as a file, Python looks beside it only

from mmkd_atsc.checkpoints.atomic_file import UNFINISHED
from tests.faults.trainings import Life, differences, write_config

# Method, loader, processes. The first ones are what a short run has time for.
KINDS = [('atsc', 'plain', 1), ('aekt', 'batched', 1), ('several', 'plain', 1), ('stock', 'plain', 1),
         ('atsc', 'batched', 2), ('aekt', 'plain', 2), ('several', 'workers', 1), ('stock', 'workers', 2),
         ('atsc', 'workers', 2), ('several', 'plain', 2)]


def kill_somewhere(life: Life, work_dir: Path, whole: float, while_saving: bool, processes: int) -> bool:
    """Kills one process, within the first half of ``whole`` seconds; False if the training was through before."""
    moment = time.monotonic() + random.uniform(0, whole / 2)
    while not life.ended():
        if time.monotonic() >= moment and (not while_saving or list(work_dir.glob(f'*{UNFINISHED}'))):
            life.kill(random.randrange(processes))
            life.wait(timeout=30)
            return True
        time.sleep(0 if while_saving else 0.002)
    return False


def torture(folder: Path, kind: tuple, kills: int) -> int:
    """One training with up to ``kills`` kills; returns how many there were. Raises where it ends otherwise."""
    method, loader, processes = kind
    config = write_config(folder, method, loader)
    whole, parts = folder / 'whole', folder / 'parts'
    start = time.monotonic()
    codes = Life(config, whole, processes=processes).wait(120)
    assert not any(codes), f'the training itself failed: {(folder / "whole.log").read_text()[-2000:]}'
    seconds, done, while_saving = time.monotonic() - start, 0, itertools.cycle([False, True])
    life = Life(config, parts, '--resume', processes=processes)
    while done < kills and kill_somewhere(life, parts, seconds, next(while_saving), processes):
        done += 1
        life = Life(config, parts, '--resume', processes=processes)
    codes = life.wait(120)
    assert not any(codes), f'did not resume after kill {done}: {(folder / "parts.log").read_text()[-2000:]}'
    best = [sorted(path.name for path in run.glob('best_*.pth')) for run in (whole, parts)]
    found = differences(whole, parts) + ([f'best checkpoints: {best}'] if best[0] != best[1] else [])
    assert not found, f'differs after {done} kills: {", ".join(found[:5])}'
    return done


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--kills', type=int, default=50)
    parser.add_argument('--method', choices=sorted({method for method, *_ in KINDS}), help='kill no other')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    random.seed(args.seed)
    left, failed = args.kills, 0
    with tempfile.TemporaryDirectory() as folder:
        for number, kind in enumerate(itertools.cycle(kind for kind in KINDS if args.method in (None, kind[0]))):
            if left <= 0:
                break
            name = '{} with {} loader, {} process(es)'.format(*kind)
            try:
                done = torture(Path(folder, str(number)), kind, min(left, random.randint(2, 6)))
                print(f'{name}: {done} kills, equal', flush=True)
            except AssertionError as error:
                failed, done = failed + 1, 1
                print(f'{name}: {error}', flush=True)
            left -= done
    print(f'{args.kills - left} kills, {failed} training(s) that did not end as they should')
    return int(failed > 0)


if __name__ == '__main__':
    sys.exit(main())
