"""What a training starts from: MMEngine loads it as far as it fits, here it is checked before the first step."""
import re
from pathlib import Path
from typing import List, Optional, Union

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmkd_atsc.checkpoints.read import check_teacher_names, misfit, read_checkpoint, weights_of
from mmkd_atsc.registry import HOOKS

from .unwrap import unwrap

# Without these MMEngine cannot go on where a training stopped.
TRAINING_STATE = ('meta', 'optimizer', 'message_hub')


@HOOKS.register_module()
class StrictResumeHook(Hook):
    """Refuses to resume from a checkpoint that does not fit the model exactly.

    Plain ``load_from`` stays lenient, as fine-tuning wants it; but what did not fit is logged, and a checkpoint of
    which nothing fits is refused.
    """

    priority = 'HIGHEST'  # EMAHook swaps weights in the checkpoint after this

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        own = unwrap(runner).state_dict()
        weights = checkpoint.get('state_dict', checkpoint)
        weights = {re.sub(r'^module\.', '', key): value for key, value in weights.items()}
        if hasattr(unwrap(runner), 'teachers'):
            check_teacher_names(weights, unwrap(runner).teachers)
        problem = misfit(own, weights)
        if runner._resume and not problem:
            check_groups(checkpoint['optimizer'], runner.optim_wrapper,
                         f'{runner._load_from or runner.work_dir}: this training cannot be resumed')
        if not problem:
            return
        if runner._resume:
            raise ValueError(f'{runner._load_from or runner.work_dir}: this training cannot be resumed, '
                             f'the checkpoint does not fit: {problem}')
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


def check_groups(saved: dict, optim_wrapper: Union[OptimWrapper, OptimWrapperDict], refusal: str) -> None:
    """Refuses an optimizer's state whose parameters are grouped otherwise: other ones have settings of their own."""
    if isinstance(optim_wrapper, OptimWrapperDict):
        for name, wrapper in optim_wrapper.items():
            check_groups(saved.get(name, {}), wrapper, f'{refusal}: {name}')
        return
    there, here = ([len(group['params']) for group in groups]
                   for groups in (saved.get('param_groups', ()), optim_wrapper.optimizer.param_groups))
    if there != here:
        raise ValueError(f'{refusal}: its optimizer has groups of {_counts(there)} parameters, the config makes groups '
                         f'of {_counts(here)}; which parts have a learning rate or weight decay of their own '
                         '(teacher_lr_mult, paramwise_cfg) must stay as it was')


def _counts(sizes: List[int]) -> str:
    """A few numbers as text.

    >>> _counts([3, 5]), _counts(list(range(9)))
    ('3, 5', '0, 1, 2, 3 ... (9 groups)')
    """
    return ', '.join(map(str, sizes[:4])) + (f' ... ({len(sizes)} groups)' if len(sizes) > 4 else '') or 'no'


def find_start(config: Config) -> Optional[str]:
    """The checkpoint that ``config`` starts from, by ``load_from`` or the last one of a run that is resumed."""
    if config.get('load_from') or not config.get('resume'):
        return config.get('load_from')
    note = Path(config.work_dir, 'last_checkpoint')
    if not note.is_file():
        return None  # nothing to go on from: a first start
    path = note.read_text().strip()
    if not path:
        raise ValueError(f'{note} is empty; name the checkpoint: --resume PATH')
    beside = note.with_name(Path(path).name)  # the run's folder may have been moved
    return str(beside) if not Path(path).is_file() and beside.is_file() else path


def check_start(config: Config) -> None:
    """Reads the checkpoint that training will start from, so that a bad one is named before anything is built."""
    path = find_start(config)
    if path is None:
        return
    config.load_from = path
    if config.get('resume') and '#' in path and not Path(path).is_file():
        raise ValueError(f'{path}: a training is resumed from a whole checkpoint, without #{path.rpartition("#")[2]}')
    content = read_checkpoint(path)
    weights_of(content, path)
    lacking = [key for key in TRAINING_STATE if key not in content]
    if config.get('resume') and lacking:
        raise ValueError(f'{path}: holds no training to resume (no {", ".join(lacking)}); '
                         f'to start from its weights: --cfg-options load_from={path}')
    if config.get('resume') and isinstance(content['meta'], dict) and content['meta'].get('seed') is not None:
        # Before anything is built: MMEngine takes it over too late for the sampler and the workers.
        config.randomness = dict(config.get('randomness') or {}, seed=content['meta']['seed'])
