"""Checks what a training starts from before its first step; MMEngine loads as much as fits."""
import errno
import fcntl
import re
from pathlib import Path
from typing import TextIO

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from mmkd_atsc.checkpoints.find import find_checkpoint
from mmkd_atsc.checkpoints.read import check_teacher_names, misfit, read_checkpoint, weights_of
from mmkd_atsc.registry import HOOKS

from .model_wrappers import unwrap_model

# Without these MMEngine cannot resume a training.
TRAINING_STATE = ('meta', 'optimizer', 'message_hub')


@HOOKS.register_module()
class StrictResumeHook(Hook):
    """Refuses to resume from a checkpoint that does not fit the model exactly.

    Plain ``load_from`` stays lenient, as fine-tuning wants it; but what did not fit is logged, and a checkpoint of
    which nothing fits is refused. A work directory in which another process trains is refused too.
    """

    priority = 'HIGHEST'  # EMAHook swaps weights in the checkpoint after this

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint['meta']['method'] = method_of(unwrap_model(runner))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        model = unwrap_model(runner)
        own = model.state_dict()
        weights = {re.sub(r'^module\.', '', key): value
                   for key, value in checkpoint.get('state_dict', checkpoint).items()}
        if hasattr(model, 'teachers'):
            check_teacher_names(weights, model.teachers)
        problem = misfit(own, weights)
        if runner._resume:
            refusal = f'{runner._load_from or runner.work_dir}: this training cannot be resumed'
            method = (checkpoint.get('meta') or {}).get('method', method_of(model))
            if method != method_of(model):
                raise ValueError(f"{refusal}, its method is {method} and the config's is {method_of(model)}")
            if problem:
                raise ValueError(f'{refusal}, the checkpoint does not fit: {problem}')
            check_same_groups(checkpoint['optimizer'], runner.optim_wrapper, refusal)
        elif problem:
            if not own.keys() & weights.keys():
                raise ValueError(f'load_from={runner._load_from}: nothing in it fits the model: {problem}')
            runner.logger.warning(f'load_from={runner._load_from} fits in part: {problem}')

    def before_train(self, runner: Runner) -> None:
        if runner.rank == 0:
            self.lock = lock_folder(runner.work_dir)
        loop = runner.train_loop
        earlier = sorted(path.name for path in Path(runner.work_dir).glob('*.pth'))
        if earlier and not loop.iter:
            runner.logger.warning(f'{runner.work_dir} has checkpoints of an earlier training ({", ".join(earlier)}); '
                                  'this one begins anew and replaces them (--resume would go on from them)')
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        done, wanted = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        if done >= wanted:
            runner.logger.info(f'nothing is left to train: {done} of {wanted} {"epochs" if by_epoch else "iterations"} '
                               'are done; to go on, raise them in train_cfg')


def method_of(model: nn.Module) -> str:
    """The types of a model, its distiller and its losses."""
    distiller = getattr(model, 'distiller', None)
    losses = getattr(distiller, 'distill_losses', {}).values()
    return ', '.join(type(part).__name__ for part in (model, distiller, *losses) if part is not None)


def lock_folder(folder: str) -> TextIO:
    """Locks a work directory while this process lives and the file is open."""
    file = Path(folder, '.training').open('w')
    try:
        # Unlike flock's, this lock is not inherited by the workers of a data loader, which may live a little longer.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):  # else the file system has no locks
            raise ValueError(f'{folder}: another process trains in this work directory; give another one') from None
    return file


def check_same_groups(saved: dict, optim_wrapper: OptimWrapper, refusal: str) -> None:
    """Refuses the state of an optimizer with other parameter groups; of several optimizers PyTorch does."""
    if isinstance(optim_wrapper, OptimWrapperDict):
        return
    there, here = ([len(group['params']) for group in groups]
                   for groups in (saved.get('param_groups', ()), optim_wrapper.optimizer.param_groups))
    if there != here:
        raise ValueError(f'{refusal}: its optimizer has {len(there)} groups of {sum(there)} parameters, the config '
                         f'makes {len(here)} of {sum(here)}; which parts have a learning rate or weight decay of their '
                         'own (teacher_lr_mult, paramwise_cfg) must stay as it was')


def find_start(config: Config) -> str | None:
    """The checkpoint that a training starts from: of ``load_from``, or the last one of a run that is resumed."""
    if config.get('load_from') or not config.get('resume'):
        return config.get('load_from')
    if not Path(config.work_dir, 'last_checkpoint').is_file():
        return None  # nothing to resume: a first start
    return str(find_checkpoint(config.work_dir))


def check_start(config: Config, seed: int | None = None) -> None:
    """Refuses a bad checkpoint, or another ``seed`` for a resumed training, before anything is built.

    The config gets the path of the checkpoint, and the seed that a resumed training began with.
    """
    path = find_start(config)
    if path is None:
        return
    config.load_from = path
    if config.get('resume') and '#' in path and not Path(path).is_file():
        raise ValueError(f'{path}: a training is resumed from a whole checkpoint, without #{path.rpartition("#")[2]}')
    content = read_checkpoint(path)
    weights_of(content, path)
    if not config.get('resume'):
        return
    lacking = [key for key in TRAINING_STATE if key not in content]
    if lacking:
        raise ValueError(f'{path}: holds no training to resume (no {", ".join(lacking)}); '
                         f'to start from its weights: --cfg-options load_from={path}')
    began_with = content['meta'].get('seed') if isinstance(content['meta'], dict) else None
    if began_with is None:
        return
    if seed not in (None, began_with):
        raise ValueError(f'--seed {seed}: {path} is of a training with seed {began_with}, and a resumed training keeps '
                         'it; leave out --seed')
    randomness = config.get('randomness') or {}
    if randomness.get('seed') not in (None, began_with):
        print(f'the seed stays {began_with}, as the training began; randomness.seed={randomness["seed"]} is not used')
    # MMEngine restores it too, but too late for the sampler and the workers.
    config.randomness = dict(randomness, seed=began_with)
