"""Scores a checkpoint: ``python tools/test.py CONFIG CHECKPOINT``; several GPUs: ``tools/dist_test.sh``."""
import argparse
from pathlib import Path

from mmengine.fileio import dump

from mmkd_atsc import cli


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__)
    cli.add_common_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint written by tools/train.py with this config')
    parser.add_argument('--out', metavar='FILE.json', help='also write the metrics there')
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors() as progress:
        config = cli.load_config(args.config, args.cfg_options)
        cli.require(config, args.config, 'model', 'test_dataloader', 'test_evaluator')
        from runner import build_runner, leave_processes, prepare_processes

        from mmkd_atsc.checkpoints.read import load_strictly, read_weights  # imports PyTorch
        from mmkd_atsc.export.config import self_contained
        from mmkd_atsc.export.images import keeps_training_data
        from mmkd_atsc.runtime.model_wrappers import unwrap_model
        config.work_dir = args.work_dir or config.get('work_dir') or cli.default_work_dir(args.config)
        config = self_contained(config)
        if keeps_training_data(config):  # an exported student's
            config.test_dataloader, config.test_evaluator = config.val_dataloader, config.val_evaluator
        config.load_from, config.resume = None, False  # else the runner would load these over the checkpoint
        prepare_processes(config, args.launcher, args.local_rank)
        weights = read_weights(args.checkpoint)
        runner = build_runner(config, progress)
        load_strictly(unwrap_model(runner), weights, args.checkpoint)
        metrics = runner.test()
        if args.out and runner.rank == 0:
            Path(args.out).parent.mkdir(parents=True, exist_ok=True)
            dump(metrics, args.out, indent=2)
    leave_processes()


if __name__ == '__main__':
    main()
