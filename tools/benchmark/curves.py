"""Compares the losses of the first steps with those of an eager training, step by step (CPU or GPU).

python tools/benchmark/curves.py --pair resnet32x4_resnet8x4

Each training runs the pair's config on the same random images from the same seed, in fp32 with deterministic kernels:
eager; eager again, which shows the machine's own differences; with the whole step in one graph; and, in bf16 and
compiled, as by ``tools/train.py --fast``. The numbers are the largest relative differences of a step's loss.
"""
import argparse
import os
from typing import Any

os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # else cuBLAS is not deterministic

from measure import add_arguments, environment, note, prepare, table_line

# The modules beside this one must come before torch.
# isort: split

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from runs import METHODS, has_graph, split_pair, train, training_config

from mmkd_atsc import cli
from mmkd_atsc.errors.checks import check_choice, check_number

MODES = ('eager', 'eager again', 'graph', 'fast')


class Losses(Hook):
    """Keeps the loss of each step, with deterministic kernels where PyTorch has them."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.values: list[torch.Tensor] = []
        self.has_graph = False

    def before_train(self, runner: Runner) -> None:
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        torch.use_deterministic_algorithms(True, warn_only=True)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        self.values.append(outputs['loss'].detach().clone())  # a graph's is overwritten by the next step
        self.has_graph = has_graph(runner)


def losses_of(method: str, mode: str, args: argparse.Namespace) -> Losses:
    """The losses of ``args.steps`` steps."""
    torch.compiler.reset()
    config = training_config(method, args.pair, args.batch, args.steps * args.batch, mode == 'fast')
    if mode == 'graph':
        config.default_hooks.step_graph = dict(type='mmkd_atsc.StepGraphHook')
    losses = Losses()
    train(config, losses)
    return losses


def main(argv: list[str] | None = None) -> None:
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--pair', default='resnet32x4_resnet8x4', help='of configs/atsc and configs/aekt')
    parser.add_argument('--methods', nargs='+', default=list(METHODS))
    parser.add_argument('--modes', nargs='+', default=list(MODES[1:]), help='beside eager')
    parser.add_argument('--steps', type=int, default=30)
    add_arguments(parser)
    args = parser.parse_args(argv)
    with cli.one_line_errors():
        for method in args.methods:
            check_choice('--methods', method, METHODS)
        for mode in args.modes:
            check_choice('--modes', mode, MODES)
        check_number('--steps', args.steps, 1, integer=True)
        split_pair(args.pair)
        device = prepare(args)
        print(f'{environment(device)}; {args.pair}, batch {args.batch}, {args.steps} steps\n')
        print('| method | training | graph | first loss | last loss | largest relative difference |\n'
              + '|---' * 6 + '|')
        for method in args.methods:
            eager = None
            for mode in ('eager', *args.modes):
                losses = losses_of(method, mode, args)
                values = torch.stack(losses.values).double().cpu()
                eager = values if eager is None else eager
                distance = float(((values - eager).abs() / eager.abs()).max())
                print(table_line([method, mode, 'yes' if losses.has_graph else 'no', f'{values[0]:.6g}',
                                     f'{values[-1]:.6g}', f'{distance:.1e}']), flush=True)
                note('curve', method=method, mode=mode, distance=distance, graph=losses.has_graph)


if __name__ == '__main__':
    main()
