"""Trains a config: ``python tools/train.py CONFIG``; several GPUs: ``tools/dist_train.sh CONFIG GPUS``."""
import argparse

from mmengine.config import Config

from mmkd_atsc import cli


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = cli.Parser(description=__doc__)
    cli.add_common_arguments(parser)
    parser.add_argument('--resume', nargs='?', const='auto', metavar='CKPT',
                        help='go on from a checkpoint; without a path, from the last one in the work directory')
    parser.add_argument('--amp', action='store_true', help='automatic mixed precision')
    parser.add_argument('--fast', action='store_true',
                        help='bf16, compiled blocks, the step as one CUDA graph; does nothing without a GPU')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate to the batch size, from auto_scale_lr.base_batch_size')
    parser.add_argument('--seed', type=int, help="seed of every random number (default: the config's)")
    return parser.parse_args(argv)


def merge_arguments(config: Config, args: argparse.Namespace) -> None:
    """Changes the config where the command line asks for it, and nowhere else."""
    from runner import make_fast

    from mmkd_atsc.runtime.resume import find_start
    config.work_dir = args.work_dir or config.get('work_dir') or cli.default_work_dir(args.config)
    if args.resume == 'auto':
        # Without a checkpoint in the work directory this is a first start, from where the config says.
        config.resume = find_start(Config(dict(resume=True, work_dir=config.work_dir))) is not None
        config.load_from = None if config.resume else config.get('load_from')
        if not config.resume:
            print(f'--resume: {config.work_dir} has no checkpoint to go on from, training begins anew', flush=True)
    elif args.resume:
        config.resume, config.load_from = True, args.resume
    if args.fast:
        make_fast(config)
    elif args.amp:
        config.optim_wrapper.type = 'AmpOptimWrapper'
        # A scaler looks at each step's gradients, for which Python waits; bf16 has the range of fp32 and needs none.
        in_bf16 = config.optim_wrapper.get('dtype') == 'bfloat16'
        config.optim_wrapper.setdefault('loss_scale', dict(enabled=False) if in_bf16 else 'dynamic')
    if args.auto_scale_lr:
        if 'base_batch_size' not in (config.get('auto_scale_lr') or {}):
            raise ValueError('--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config')
        config.auto_scale_lr.enable = True
    if args.seed is not None:
        randomness = config.get('randomness') or {}
        config.randomness = dict(randomness, seed=args.seed)


def main(argv: list[str] | None = None) -> None:
    args = parse_args(argv)
    with cli.one_line_errors() as progress:
        config = cli.load_config(args.config, args.cfg_options)
        cli.require(config, args.config, 'model', 'train_dataloader', 'train_cfg', 'optim_wrapper')
        from runner import build_runner, leave_processes, prepare_processes  # imports PyTorch

        from mmkd_atsc.runtime.resume import check_start
        merge_arguments(config, args)
        check_start(config, args.seed)
        prepare_processes(config, args.launcher, args.local_rank)
        build_runner(config, progress).train()
    leave_processes()


if __name__ == '__main__':
    main()
