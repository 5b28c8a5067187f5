"""Starts N processes of a tool on this machine: on its GPUs, or over gloo on the CPU where there is none.

    python -m mmkd_atsc.launch 8 tools/train.py CONFIG --work-dir DIR

The environment variables NNODES, NODE_RANK, MASTER_ADDR and PORT place it among several machines; alone, it takes a
free port. The processes die with the launcher, however it dies.
"""
import ctypes
import logging
import os
import signal
import socket
import sys
from pathlib import Path

USAGE = 'usage: python -m mmkd_atsc.launch PROCESSES SCRIPT CONFIG [ARGS ...]'
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent dies
LAUNCHER = 'MMKD_LAUNCHER_PID'  # the environment variable that tells a process who started it


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def parse_processes(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        sys.exit(f'error: the number of GPUs is {text!r}, it must be a whole number from 1')
    return int(text)


def check_devices(processes: int) -> None:
    """Refuses to start more processes than there are GPUs; without any GPU, divides the CPU's cores among them."""
    import torch
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        sys.exit(f'error: {processes} GPUs asked for, this machine has {gpus}')
    # On the CPU each process gets its share of the cores: N processes with all of them would only fight.
    share = max(1, len(os.sched_getaffinity(0)) // processes) if gpus == 0 else 1
    threads = os.environ.setdefault('OMP_NUM_THREADS', str(share))
    os.environ.setdefault('MKL_NUM_THREADS', threads)
    if gpus == 0:
        print(f'no GPU on this machine: {processes} CPU processes over gloo, {threads} thread(s) each', flush=True)


def torchrun_arguments(processes: int, command: list[str], environment: dict) -> list[str]:
    nodes = environment.get('NNODES', '1')
    port = environment.get('PORT') or (str(free_port()) if nodes == '1' else '29500')
    address = environment.get('MASTER_ADDR', '127.0.0.1')
    return [f'--nnodes={nodes}', f'--node_rank={environment.get("NODE_RANK", "0")}', f'--nproc_per_node={processes}',
            f'--master_addr={address}', f'--master_port={port}', '--module', 'mmkd_atsc', *command,
            '--launcher', 'pytorch']


def die_with_launcher() -> None:
    """Makes Linux kill this process when the launcher that started it dies, also by ``kill -9``."""
    launcher = os.environ.pop(LAUNCHER, None)
    if launcher is None or sys.platform != 'linux':
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(launcher):  # it died before
        os._exit(1)


def describe_failure(rank: int, exitcode: int) -> str:
    """Says in one line which process ended a job, and why."""
    why = f'ended with exit code {exitcode}, its error is above'
    if exitcode < 0:
        name = signal.Signals(-exitcode).name
        why = f'was killed by {name}' + (' (by hand, or because memory was full)' if name == 'SIGKILL' else '')
    return f'process {rank} {why}; the others were stopped'


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) < 3:
        sys.exit(f'error: {USAGE}')
    processes = parse_processes(argv[0])
    config = argv[2]
    if '::' not in config and not Path(config).is_file():
        sys.exit(f'error: no such config: {config}')
    check_devices(processes)

    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    logging.getLogger('torch.distributed').setLevel(logging.CRITICAL)  # its report repeats what the process has said
    os.environ[LAUNCHER] = str(os.getpid())
    try:
        run.main(torchrun_arguments(processes, argv[1:], dict(os.environ)))
    except ChildFailedError as error:
        # A process that loses another may fail in the same second.
        rank, failure = min(error.failures.items(), key=lambda item: (item[1].exitcode >= 0, item[1].timestamp))
        if failure.exitcode != 2:  # 2 is a tool's own line of error
            print(describe_failure(rank, failure.exitcode), file=sys.stderr, flush=True)
        sys.exit(failure.exitcode if failure.exitcode > 0 else 1)


if __name__ == '__main__':
    main()
