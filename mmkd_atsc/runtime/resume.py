"""Checks what a training starts from before its first step; MMEngine loads as much as fits."""
import re
from pathlib import Path

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

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
    which nothing fits is refused.
    """

    priority = 'HIGHEST'  # EMAHook swaps weights in the checkpoint after this

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
            if problem:
                raise ValueError(f'{refusal}, the checkpoint does not fit: {problem}')
            check_groups(checkpoint['optimizer'], runner.optim_wrapper, refusal)
        elif problem:
            if not own.keys() & weights.keys():
                raise ValueError(f'load_from={runner._load_from}: nothing in it fits the model: {problem}')
            runner.logger.warning(f'load_from={runner._load_from} fits in part: {problem}')

    def before_train(self, runner: Runner) -> None:
        loop = runner.train_loop
        by_epoch = isinstance(loop, EpochBasedTrainLoop)
        done, wanted = (loop.epoch, loop.max_epochs) if by_epoch else (loop.iter, loop.max_iters)
        if done >= wanted:
            runner.logger.info(f'nothing is left to train: {done} of {wanted} {"epochs" if by_epoch else "iterations"} '
                               'are done; to go on, raise them in train_cfg')


def check_groups(saved: dict, optim_wrapper: OptimWrapper, refusal: str) -> None:
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
    """Reads the checkpoint that training will start from, and refuses a bad one before anything is built.

    Args:
        config: Gets the path of the checkpoint, and the seed of a training that is resumed.
        seed: That the command line asks for; a resumed training has no other than it began with.
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
