"""Stores the logits of frozen teachers in a file, and trains with them in place of the teachers.

The file holds float16 logits (epochs, images, classes) of each teacher, and in its metadata what they depend on.
"""
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import safetensors.torch
import torch
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import Tensor, nn

from mmkd_atsc.checkpoints.atomic_file import write_whole
from mmkd_atsc.datasets.pad_crop_flip import to_device
from mmkd_atsc.errors.checks import check_number
from mmkd_atsc.models.algorithms import AdaptiveTeacherDistill, MultiTeacherDistill
from mmkd_atsc.models.teacher import Teacher, fingerprint
from mmkd_atsc.registry import HOOKS
from mmkd_atsc.runtime.model_wrappers import unwrap_model

FORMAT = 'mmkd_atsc teacher cache'
RECORD_AGAIN = 'record a file for this config with tools/cache_teacher.py'
# A share of the logits' spread. Rounding (TF32) changes logits by less, another network by much more.
MOST_ROUNDING = 0.02


@HOOKS.register_module()
class TeacherCacheHook(Hook):
    """Gives the distiller the teachers' logits from a file: in training no teacher runs but for the first batch.

    Epoch e of a training sees the augmentation, and the logits, of the recorded epoch e mod E. The file must have been
    recorded from these teachers, images and augmentation, and its logits must be those that the teachers give to the
    first batch. Scoring runs the teachers and needs no file.

    Args:
        path: The file that ``tools/cache_teacher.py`` wrote.
    """

    priority = 'HIGH'  # after a step, hooks that look at the teachers find them as they were
    prevents_step_graph = "the teachers' logits are read from a file (TeacherCacheHook)"

    def __init__(self, path: str) -> None:
        self.path = str(path)

    def before_train(self, runner: Runner) -> None:
        model, dataset = unwrap_model(runner), runner.train_dataloader.dataset
        check_cacheable(model, dataset)
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            raise ValueError('TeacherCacheHook counts epochs; a training by iterations (by_epoch=False) has none')
        self._file = open_cache(self.path)
        recorded = self._file.metadata()
        for name, value in what_logits_depend_on(model, dataset).items():
            if recorded.get(name) != value:
                raise ValueError(f'{self.path}: was recorded with other {name}: {recorded.get(name, "none")}, this '
                                 f'training has {value}; {RECORD_AGAIN}')
        self._seed, self._epochs = int(recorded['seed']), int(recorded['epochs'])
        self._compared = False
        if self._epochs < runner.max_epochs and any(dataset.augment):
            runner.logger.warning(f'{self.path}: has the augmentation of {self._epochs} of the {runner.max_epochs} '
                                  'epochs, and repeats it; tools/cache_teacher.py --epochs N records more')

    def before_train_epoch(self, runner: Runner) -> None:
        epoch = runner.epoch % self._epochs
        self._draws = draw_epoch(self._seed, epoch, len(runner.train_dataloader.dataset))
        self._logits = {name: self._file.get_slice(name)[epoch] for name in unwrap_model(runner).teachers}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        model = unwrap_model(runner)
        repeat_augmentation(data_batch, self._draws)
        logits = {name: to_device(kept[data_batch['sample_idx']], model.data_preprocessor.device).float()
                  for name, kept in self._logits.items()}
        if not self._compared:
            self._compare(answers(model, data_batch), logits)
        for name, teacher in model.teachers.items():
            teacher.forward = functools.partial(hand_over, teacher.model.head, logits[name])

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        for teacher in unwrap_model(runner).teachers.values():
            del teacher.forward  # the class has it again

    def _compare(self, live: dict[str, Tensor], recorded: dict[str, Tensor]) -> None:
        """Refuses logits that the teachers do not give: their weights are the same, their configs may differ."""
        for name, logits in live.items():
            difference = (logits - recorded[name]).norm()
            spread = (logits - logits.mean(1, keepdim=True)).norm()
            if not difference <= MOST_ROUNDING * spread + torch.finfo(torch.float16).eps * logits.norm():
                raise ValueError(f'{self.path}: holds other logits than the {name} of this config gives to the first '
                                 f'batch: they differ by {difference / spread:.0%} of their spread; {RECORD_AGAIN}')
        self._compared = True


def record_teachers(model: nn.Module, dataset: Any, path: str, epochs: int = 1, seed: int = 0, batch_size: int = 250,
                    report: Callable[[str], object] = print) -> None:
    """Writes the logits that an algorithm's teachers give to ``epochs`` augmentations of its batched training data."""
    check_number('epochs', epochs, 1, integer=True)
    check_cacheable(model, dataset)
    model.eval()
    recorded: dict[str, list[Tensor]] = {name: [] for name in model.teachers}
    for epoch in range(epochs):
        draws = draw_epoch(seed, epoch, len(dataset))
        for rows in torch.arange(len(dataset)).split(batch_size):
            batch = dataset.__getitems__(rows.tolist())
            repeat_augmentation(batch, draws)
            for name, logits in answers(model, batch).items():
                if not logits.abs().max() < torch.finfo(torch.float16).max:
                    raise ValueError(f'{name} gave a logit of {logits.abs().max():g}, which float16 cannot hold')
                recorded[name].append(logits.half().cpu())
        report(f'epoch {epoch + 1} of {epochs}')
    content = {name: torch.cat(parts).unflatten(0, (epochs, -1)) for name, parts in recorded.items()}
    write_whole(path, safetensors.torch.save(content, dict(
        format=FORMAT, seed=str(seed), epochs=str(epochs), **what_logits_depend_on(model, dataset))))


def open_cache(path: str) -> Any:
    try:
        file = safetensors.safe_open(path, 'pt')
    except safetensors.SafetensorError as error:
        raise ValueError(f'{path}: is truncated or no teacher cache ({error})') from None
    if (file.metadata() or {}).get('format') != FORMAT:
        raise ValueError(f'{path}: is no teacher cache; tools/cache_teacher.py writes one')
    return file


def what_logits_depend_on(model: nn.Module, dataset: Any) -> dict[str, str]:
    """Images, augmentation and weights, as words that are compared."""
    def checksum(tensors: dict[str, Tensor]) -> str:
        return bytes(fingerprint(tensors).tolist()).hex()

    data = checksum(dict(images=dataset.data_list.images, labels=dataset.data_list.labels))
    return dict(data=f'{len(dataset)} images (checksum {data})', augmentation=str(dataset.augment), **{
        f'weights of {name}': checksum(teacher.model.state_dict()) for name, teacher in model.teachers.items()})


def draw_epoch(seed: int, epoch: int, samples: int) -> Tensor:
    """(3, samples) numbers in [0, 1) for row, column and flip; NumPy keeps this generator the same in all versions."""
    return torch.from_numpy(np.random.RandomState([seed, epoch]).random_sample((samples, 3)).T)


def repeat_augmentation(batch: dict, draws: Tensor) -> None:
    """Has the data preprocessor augment a batch by the numbers that an epoch has for its images."""
    batch['augment'] = functools.partial(batch['augment'], draws=draws[:, batch['sample_idx']])


@torch.no_grad()
def answers(model: nn.Module, batch: dict) -> dict[str, Tensor]:
    """Each teacher's logits (N, C) for the augmented images of a batch."""
    images = model.data_preprocessor(batch, training=True)['inputs']
    return {name: Teacher.forward(teacher, images).float() for name, teacher in model.teachers.items()}


def hand_over(head: nn.Module, logits: Tensor, *batch: Any) -> Tensor:
    """In place of a teacher's forward: gives the recorders of its head the logits of the file."""
    for listener in head._forward_hooks.values():
        listener(head, (), logits)
    return logits


def check_cacheable(model: Any, dataset: Any) -> None:
    """Refuses, in one line, teachers that do more than give logits for the images of a data set."""
    if not isinstance(model, MultiTeacherDistill) or isinstance(model, AdaptiveTeacherDistill):
        raise ValueError('a teacher cache holds logits of frozen teachers, for model.type=MultiTeacherDistill, not for '
                         f'{type(model).__name__}')
    if not hasattr(dataset, 'augment'):
        raise ValueError("a teacher cache needs images that are augmented in batches, type='mmkd_atsc.BatchedCIFAR100' "
                         f'(or 10) not wrapped in another data set; the training data are a {type(dataset).__name__}')
    if getattr(model.data_preprocessor, 'batch_augments', None) is not None:
        raise ValueError('batch_augments mix images anew in each step, which no teacher cache holds')
    if model.distiller.deliveries.deliveries:
        raise ValueError('distill_deliveries need the teacher to run; a teacher cache takes its place')
    for name, recorder in model.distiller.teacher_recorders.recorders.items():
        for inner in getattr(recorder, 'recorders', dict(teacher=recorder)).values():
            if (type(inner).__name__, inner.source) != ('ModuleOutputsRecorder', 'head'):
                raise ValueError(f'teacher_recorders: {name} is a {type(inner).__name__} of {inner.source!r}; a file '
                                 "holds logits only, ModuleOutputs of 'head'")
