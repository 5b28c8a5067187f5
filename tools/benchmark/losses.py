"""Compares the AEKT loss with MMRazor's DKDLoss and KLDivergence: time, memory, kernels (CPU or GPU).

python tools/benchmark/losses.py --shapes 64x100 1024x1000 256x21841 --threads 1 2

A step is forward and backward in fp32; the rivals take turns and the median counts. Memory is the most that a step has
allocated, without the logits. Launches are the kernels, copies and fills that a step starts on the GPU; on the CPU, the
operators that would start them.
"""
import argparse
from collections.abc import Callable

import measure as timing
from measure import CPU, Step, count_launches, default_device, environment, peak_memory

# The module beside this one must come before torch.
# isort: split

import torch

from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.models.losses import AEKTLoss


def make_steps(num_samples: int, num_classes: int, device: torch.device = CPU) -> dict[str, Step]:
    """One forward and backward of each rival on the same logits; AEKT computes three terms, DKD two, KD one."""
    from mmrazor.models.losses import DKDLoss, KLDivergence
    generator = torch.Generator().manual_seed(0)
    student = torch.randn(num_samples, num_classes, generator=generator).to(device).requires_grad_()
    teacher = 3 * torch.randn(num_samples, num_classes, generator=generator).to(device)
    labels = torch.randint(num_classes, (num_samples, ), generator=generator).to(device)
    aekt = AEKTLoss(tau=4.0, alpha=1.0, beta=8.0, gamma=1.0, max_pull=None)
    # DKDLoss sums whatever its reduction; the work is the same.
    dkd = DKDLoss(tau=4.0, alpha=1.0, beta=8.0, reduction='mean')
    kd = KLDivergence(tau=4.0, reduction='batchmean')

    def step(loss: Callable[[], torch.Tensor]) -> Step:
        def forward_and_backward() -> None:
            loss().backward()
            student.grad = None  # so that each step allocates its gradient
        return forward_and_backward

    return {'AEKTLoss': step(lambda: aekt(student, teacher, labels)),
            'DKDLoss': step(lambda: dkd(student, teacher, labels)),
            'KLDivergence': step(lambda: kd(student, teacher))}


def default_repeats(num_samples: int, num_classes: int) -> int:
    return max(7, min(300, 20_000_000 // (num_samples * num_classes)))


def measure(shape: tuple[int, int], repeats: int | None, device: torch.device) -> str:
    steps = make_steps(*shape, device)
    times = timing.median_times(steps, repeats or default_repeats(*shape), block=timing.block_of(device))
    memory = {name: peak_memory(step, device) for name, step in steps.items()}
    launches = {name: count_launches(step, device) for name, step in steps.items()}
    ours, dkd = 'AEKTLoss', 'DKDLoss'
    timing.note('losses', shape='x'.join(map(str, shape)), **times)
    cells = [f'{shape[0]}x{shape[1]}',
             *(f'{1e3 * times[name]:.2f}' for name in steps), f'{times[dkd] / times[ours]:.2f}',
             *(f'{memory[name] / 2**20:.2f}' for name in steps), f'{memory[ours] / memory[dkd]:.2f}',
             launches[ours], launches[dkd]]
    return timing.table_line(cells)


def parse_shape(text: str) -> tuple[int, int]:
    try:
        num_samples, num_classes = (int(number) for number in text.lower().split('x'))
    except ValueError:
        raise ValueError(f'--shapes {text}: a shape is SAMPLESxCLASSES, such as 64x100') from None
    return (check_number('samples', num_samples, low=1, integer=True),
            check_number('classes', num_classes, low=2, integer=True))


def main(argv: list[str] | None = None) -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--shapes', nargs='+', default=['64x100', '1024x1000', '256x21841'], metavar='NxC')
    parser.add_argument('--threads', nargs='+', type=int, default=[1], help='numbers of threads to measure with')
    parser.add_argument('--repeats', type=int, help='turns of each loss (default: 7 to 300, by the size)')
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        shapes = [parse_shape(text) for text in args.shapes]
        check_number('--repeats', args.repeats, 1, integer=True, optional=True)
        timing.have_alone()
        device = default_device()
        timing.set_tf32(False)
        for threads in args.threads:
            torch.set_num_threads(check_number('--threads', threads, low=1, integer=True))
            print(f'\n{environment(device)}\n')
            print('| shape | AEKT ms | DKD ms | KD ms | DKD / AEKT time | AEKT MiB | DKD MiB | KD MiB '
                  '| AEKT / DKD memory | AEKT launches | DKD launches |\n' + '|---' * 11 + '|')
            for shape in shapes:
                print(measure(shape, args.repeats, device), flush=True)


if __name__ == '__main__':
    main()
