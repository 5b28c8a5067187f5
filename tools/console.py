"""What a person sees of a training before its first line; the log file has everything."""
import logging
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

import mmkd_atsc
from mmkd_atsc.cli import Progress
from mmkd_atsc.runtime.model_wrappers import unwrap_model
from mmkd_atsc.runtime.resume import method_of

OURS = (str(Path(mmkd_atsc.__file__).parent), __file__)


class ConsoleHook(Hook):
    """Says what will be trained. Before the first step the console shows only what mmkd_atsc says, and warnings."""

    priority = 'VERY_HIGH'  # before the teachers are scored, which may take minutes

    def __init__(self, progress: Progress) -> None:
        self.progress, self.shows_all = progress, False

    def shows(self, record: logging.LogRecord) -> bool:
        if self.shows_all or record.pathname.startswith(OURS):
            return True
        return record.levelno > logging.INFO and 'will be deprecated' not in record.getMessage()

    def before_train(self, runner: Runner) -> None:
        lines = '\n'.join(f'  {name:<10} {text}' for name, text in summarize(runner).items())
        runner.logger.info(f'training {Path(runner.cfg.filename or "a config").stem}:\n{lines}')

    def after_train_iter(self, *args, **kwargs) -> None:
        self.progress.has_trained = self.shows_all = True

    def before_test(self, runner: Runner) -> None:
        self.shows_all = True


def summarize(runner: Runner) -> dict[str, str]:
    """What teaches whom, on which data, how, and where the log is."""
    model, loader, loop = unwrap_model(runner), runner.train_dataloader, runner.train_loop
    size = f'{len(loader.dataset):,} images' if hasattr(loader.dataset, '__len__') else 'a stream of images'
    wrapper = runner.optim_wrapper
    if isinstance(wrapper, OptimWrapperDict):
        wrapper = next(iter(wrapper.values()))
    rate = max(group.get('initial_lr', group['lr']) for group in wrapper.optimizer.param_groups)
    length = f'{loop.max_epochs} epoch(s)' if isinstance(loop, EpochBasedTrainLoop) else f'{loop.max_iters} iterations'
    batch = loader.batch_size or getattr(loader.batch_sampler, 'batch_size', 'varying')
    precision = 'mixed precision' if isinstance(wrapper, AmpOptimWrapper) else \
        'bf16' if getattr(wrapper, 'autocasts', False) else 'fp32'
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'
    start = f', {"resumes" if runner._resume else "starts"} from {runner._load_from}' if runner._load_from else ''
    return {
        'method': method_of(model), **describe_teachers(model),
        'student': name_and_size(getattr(model, 'student', model)) + start,
        'data': f'{type(loader.dataset).__name__}, {size}, {length}',
        'batch': f'{batch} images' + f' in each of {runner.world_size} processes' * (runner.world_size > 1),
        'optimizer': f'{type(wrapper.optimizer).__name__}, learning rate {rate:g}',
        'precision': f'{precision} on {device}', 'log': runner.logger.log_file or 'none'}


def describe_teachers(model: nn.Module) -> dict[str, str]:
    """The teachers' networks, checkpoints and weights, by name; MMRazor's own algorithms have one."""
    weights = getattr(model, 'teacher_weights', {})
    if not hasattr(model, 'teachers'):
        return {'teacher': name_and_size(model.teacher)} if hasattr(model, 'teacher') else {}
    return {name: f'{name_and_size(teacher.model)}, from {teacher.origin}'
            + f', weight {weights[name]:.3g}' * (len(weights) > 1) for name, teacher in model.teachers.items()}


def name_and_size(network: nn.Module) -> str:
    size = sum(parameter.numel() for parameter in network.parameters())
    return f'{type(getattr(network, "backbone", network)).__name__}, {size:,} parameters'
