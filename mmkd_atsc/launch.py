"""Starts N processes of a tool on this machine: on its GPUs, or over gloo on the CPU where there is none.

    python -m mmkd_atsc.launch 8 tools/train.py CONFIG --work-dir DIR

The environment variables NNODES, NODE_RANK, MASTER_ADDR and PORT place it among several machines; alone, it takes a
free port. What goes wrong in a process is printed by that process, so the launcher only passes on its exit code.
"""
import logging
import os
import socket
import sys
from pathlib import Path

USAGE = 'usage: python -m mmkd_atsc.launch PROCESSES SCRIPT CONFIG [ARGS ...]'


def free_port() -> int:
    """A TCP port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def refuse(message: str) -> None:
    sys.exit(f'error: {message}')


def parse_processes(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        refuse(f'the number of GPUs is {text!r}, it must be a whole number from 1')
    return int(text)


def check_devices(processes: int) -> None:
    """Enough GPUs, or none at all (then CPU processes, with a line that says so); anything between is refused."""
    import torch
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        refuse(f'{processes} GPUs asked for, this machine has {gpus}')
    # On the CPU each process gets its share of the cores: N processes with all of them would only fight.
    share = max(1, len(os.sched_getaffinity(0)) // processes) if gpus == 0 else 1
    threads = os.environ.setdefault('OMP_NUM_THREADS', str(share))
    os.environ.setdefault('MKL_NUM_THREADS', threads)
    if gpus == 0:
        print(f'no GPU on this machine: {processes} CPU processes over gloo, {threads} thread(s) each', flush=True)


def torchrun_arguments(processes: int, command: list[str], environment: dict) -> list[str]:
    """What torchrun is asked to do.

    >>> torchrun_arguments(2, ['tools/train.py', 'a.py'], {'PORT': '29501'})[:5]
    ['--nnodes=1', '--node_rank=0', '--nproc_per_node=2', '--master_addr=127.0.0.1', '--master_port=29501']
    """
    nodes = environment.get('NNODES', '1')
    port = environment.get('PORT') or (str(free_port()) if nodes == '1' else '29500')
    address = environment.get('MASTER_ADDR', '127.0.0.1')
    return [f'--nnodes={nodes}', f'--node_rank={environment.get("NODE_RANK", "0")}', f'--nproc_per_node={processes}',
            f'--master_addr={address}', f'--master_port={port}', *command, '--launcher', 'pytorch']


def main(argv: list[str] | None = None) -> None:
    argv = sys.argv[1:] if argv is None else argv
    if len(argv) < 3:
        refuse(USAGE)
    processes = parse_processes(argv[0])
    config = argv[2]
    if '::' not in config and not Path(config).is_file():
        refuse(f'no such config: {config}')
    check_devices(processes)

    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    logging.getLogger('torch.distributed').setLevel(logging.CRITICAL)  # its report repeats what the process has said
    try:
        run.main(torchrun_arguments(processes, argv[1:], dict(os.environ)))
    except ChildFailedError as error:
        code = max((failure.exitcode for failure in error.failures.values()), default=1)
        sys.exit(code if code > 0 else 1)


if __name__ == '__main__':
    main()
