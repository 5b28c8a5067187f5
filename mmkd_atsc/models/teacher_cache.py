"""What frozen teachers answered, in a file: training reads it in their place.

The file is two lines of text, :data:`MAGIC` and a :class:`CacheHeader` as JSON, then numbers, little-endian, of which
the header gives all sizes: a checksum of 64 bits an image, then epoch by epoch one record an image (`record_type`).
It holds no code and no offsets.
"""
import json
import logging
import math
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from mmengine.logging import MessageHub, print_log
from torch import Tensor, nn

from mmkd_atsc.errors.checks import check_choice, check_number

from .data_preprocessors.recorded_batch import MOST_SEED, RecordedBatch
from .teacher import Teacher, fingerprint

MAGIC = b'mmkd_atsc teacher cache 1\n'
MOST_HEADER, MOST_BRACKETS = 2**16, 500
# Of the spread of the logits: TF32 moves those of a deep network by less, another network's differ by much more.
MOST_ROUNDING = 0.02
DTYPES = dict(float16='<f2', float32='<f4')


class CacheHeader(NamedTuple):
    """What a cache was made of.

    Args:
        dataset: Name of the data set, for messages; its images are told by their checksums.
        samples: How many images it has.
        classes: How many classes.
        padding, flip_prob: The augmentation, as in :class:`mmkd_atsc.datasets.pad_crop_flip.PadCropFlip`.
        seed: Its ``augment_seed``.
        epochs: How many epochs of it are recorded.
        dtype: 'float16' or 'float32'.
        topk: How many logits of an image are kept; None: all.
        tau: The temperature at which the probabilities of the ``topk`` are exact.
        teachers: By name, the ``fingerprint`` of the weights and ``sees``, what :func:`probe_normalization` gives.
    """

    dataset: str
    samples: int
    classes: int
    padding: int
    flip_prob: float
    seed: int
    epochs: int
    dtype: str
    topk: int | None
    tau: float
    teachers: dict[str, dict]

    def check(self) -> 'CacheHeader':
        """Refuses values that no cache has."""
        for name, low, high in (('samples', 1, math.inf), ('classes', 2, 2**15 - 1), ('padding', 0, math.inf),
                                ('seed', 0, MOST_SEED), ('epochs', 1, math.inf)):
            check_number(name, getattr(self, name), low, high, integer=True)
        check_number('flip_prob', self.flip_prob, 0, 1)
        check_choice('dtype', self.dtype, DTYPES)
        check_number('tau', self.tau, above=0)
        if self.topk is not None:
            check_number('topk', self.topk, 1, self.classes - 1, integer=True)
        if not isinstance(self.teachers, dict) or not self.teachers:
            raise TypeError(f'teachers={self.teachers!r} must be a dict')
        for name, teacher in self.teachers.items():
            if not isinstance(teacher, dict) or teacher.keys() != {'fingerprint', 'sees'}:
                raise TypeError(f'teachers: {name}={teacher!r} must have fingerprint and sees')
            if not isinstance(teacher['sees'], list) or len(teacher['sees']) != 6:
                raise TypeError(f'teachers: {name}: sees={teacher["sees"]!r} must be six numbers')
            for number in teacher['sees']:
                check_number(f'teachers: {name}: sees', number)
        return self

    def record_type(self) -> np.dtype:
        """What is kept of an image in an epoch."""
        number = DTYPES[self.dtype]
        kept: list[tuple] = [('logits', number, (self.topk or self.classes, ))]
        if self.topk is not None:
            kept += [('classes', '<i2', (self.topk, )), ('rest', number)]
        return np.dtype([(name, kept) for name in self.teachers])

    def epoch_bytes(self) -> int:
        return self.samples * self.record_type().itemsize


class TeacherCache:
    """The answers of teachers, by a :class:`RecordedBatch`.

    Of logits :math:`v` cut to the ``topk`` largest, all :math:`m` others are given the one value
    :math:`\\tau\\log\\frac{1}{m}\\sum e^{v_c/\\tau}`: the softmax sums to one at any temperature, and at :math:`\\tau`
    gives the topk classes, and the others together, what the teacher gave them.

    Args:
        path: The file, which ``tools/cache_teacher.py`` writes. It is mapped, not read: what a batch needs is.
    """

    def __init__(self, path: str) -> None:
        self.path = str(path)
        self._tried = False
        if not Path(path).is_file():
            raise FileNotFoundError(f'teacher_cache={self.path!r}: no such file; tools/cache_teacher.py writes one')
        try:
            self._open()
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            reason = ' '.join(str(error).split())[:200]
            raise ValueError(f'{self.path}: is truncated or no teacher cache ({reason})') from None

    def _open(self) -> None:
        with open(self.path, 'rb') as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise ValueError('it does not begin with ' + MAGIC.decode().strip())
            line = file.readline(MOST_HEADER)
            if line.count(b'[') + line.count(b'{') > MOST_BRACKETS:  # nested, they overflow the parser's stack
                raise ValueError(f'its header has more than {MOST_BRACKETS} brackets')
            self.header = CacheHeader(**json.loads(line)).check()
            start = file.tell()
            expected = start + 8 * self.header.samples + self.header.epochs * self.header.epoch_bytes()
            size = file.seek(0, 2)
        if size != expected:
            raise ValueError(f'{size:,} bytes, its header says {expected:,}')
        content = np.memmap(self.path, mode='r')
        self._checksums = torch.from_numpy(np.array(content[start:start + 8 * self.header.samples].view('<i8')))
        self._records = content[start + 8 * self.header.samples:].view(self.header.record_type()).reshape(
            self.header.epochs, self.header.samples)
        if self.header.topk is not None:
            for name in self.header.teachers:
                classes = self._records[name]['classes']
                if classes.min() < 0 or classes.max() >= self.header.classes:
                    raise ValueError(f'{name} has classes beyond 0 to {self.header.classes - 1}')

    def __reduce__(self) -> tuple:  # a copy of a model maps the file again, it does not hold its content
        return TeacherCache, (self.path, )

    def check_teachers(self, teachers: dict[str, Teacher], preprocessor: nn.Module) -> None:
        """Refuses teachers that would answer otherwise than those that were recorded."""
        for name, teacher in teachers.items():
            recorded = self.header.teachers.get(name)
            if recorded is None:
                self._refuse(f'holds the answers of {", ".join(self.header.teachers)}, not of {name}')
            if teacher.num_classes not in (None, self.header.classes):
                self._refuse(f'holds logits of {self.header.classes} classes, {name} has {teacher.num_classes}')
            if recorded['fingerprint'] != fingerprint_of(teacher):
                self._refuse(f'holds the answers of another {name} than that of {teacher.origin}')
            now = probe_normalization(teacher, preprocessor)
            if not np.allclose(recorded['sees'], now, atol=1e-3):
                self._refuse(f'was recorded with another normalisation: two pixels were {recorded["sees"]} to '
                             f'{name} and are {now}')

    def take_over(self, teachers: dict[str, Teacher], preprocessor: nn.Module) -> None:
        """Compares the file with the teachers, and has the batches augmented as they were recorded."""
        self.check_teachers(teachers, preprocessor)
        preprocessor.set_augmentation(self.header.seed, self.header.epochs)

    def answer(self, model: nn.Module, inputs: Tensor, data_samples: list | None) -> None:
        """In place of the teachers: gives the recorders of their heads what the heads answered to these images."""
        batch = data_samples[0].get('recorded_batch') if data_samples else None
        if batch is None:
            raise ValueError('teacher_cache: the batch does not say which images it has; it must come from the data '
                             'preprocessor, with training=True')
        self.check_batch(batch)
        self.check_first_batch(model, inputs, batch)
        for name in model.teachers:
            logits = model.data_preprocessor.to_device(self.logits(name, batch)).float()
            with model.recording_teacher(name):
                for recorder in model.distiller.teacher_recorders.recorders.values():
                    recorder = recorder.of(name) if hasattr(recorder, 'of') else recorder
                    recorder.forward_hook(None, None, logits)

    def check_batch(self, batch: RecordedBatch) -> None:
        """Refuses images, or an augmentation, that were not recorded."""
        header, augment = self.header, batch.augment
        if batch.samples != header.samples:
            self._refuse(f'was recorded with {header.samples:,} images ({header.dataset}), the data set has '
                         f'{batch.samples:,}')
        if (augment.padding, augment.flip_prob) != (header.padding, header.flip_prob):
            self._refuse(f'was recorded with padding={header.padding}, flip_prob={header.flip_prob}, the pipeline of '
                         f'the data set has padding={augment.padding}, flip_prob={augment.flip_prob}')
        same = self._checksums[batch.sample_idx] == batch.checksums
        if not same.all():
            self._refuse(f'was recorded with other data ({header.dataset}): image {batch.sample_idx[~same][0]} differs')

    def check_first_batch(self, model: nn.Module, images: Tensor, batch: RecordedBatch) -> None:
        """Once, with the first batch of a training: refuses other answers than the teachers', and warns of poor ones.

        Fingerprints tell the weights, not what a network does with them.
        """
        if self._tried:
            return
        for name, teacher in model.teachers.items():
            with torch.no_grad(), torch.autocast(images.device.type, enabled=False):  # as they were recorded
                live = teacher(images).float().cpu()
            recorded = self.logits(name, batch).float()
            if self.header.topk is not None:
                classes = self._of(name, 'classes', batch).long()
                live = fill(rest_of(live, classes, self.header.tau), live.gather(1, classes), classes, live.size(1))
            difference, spread = (live - recorded).norm(), (live - live.mean(1, keepdim=True)).norm()
            half_precision = torch.finfo(torch.float16).eps * live.norm()
            if not difference <= MOST_ROUNDING * spread + half_precision:
                self._refuse(f'holds other logits than the {name} of this config gives to the first batch: they differ '
                             f'by {difference / spread:.0%} of their spread, rounding by at most {MOST_ROUNDING:.0%}')
        self._warn(model.distiller)
        self._tried = True

    def _warn(self, distiller: nn.Module) -> None:
        header, max_epochs = self.header, MessageHub.get_current_instance().get_info('max_epochs') or 0
        for name, loss in distiller.distill_losses.items():
            tau = getattr(loss, 'tau', header.tau)
            if header.topk is not None and tau != header.tau:
                print_log(f'{self.path}: its {header.topk} logits of an image give exact probabilities at '
                          f'tau={header.tau}, {name} has tau={tau}; tools/cache_teacher.py --tau {tau} makes it exact',
                          'current', logging.WARNING)
        if header.epochs < max_epochs and (header.padding or header.flip_prob):
            print_log(f'{self.path}: has the augmentation of {header.epochs} of the {max_epochs} epochs, and repeats '
                      'it; tools/cache_teacher.py --epochs N records more', 'current', logging.WARNING)

    def logits(self, teacher: str, batch: RecordedBatch) -> Tensor:
        """(N, classes) what a teacher said to a batch, in the precision of the file, on the CPU."""
        kept = self._of(teacher, 'logits', batch)
        if self.header.topk is None:
            return kept
        classes = self._of(teacher, 'classes', batch).long()
        return fill(self._of(teacher, 'rest', batch), kept, classes, self.header.classes)

    def _of(self, teacher: str, what: str, batch: RecordedBatch) -> Tensor:
        return torch.from_numpy(self._records[batch.epoch][teacher][what][batch.sample_idx.numpy()])

    def _refuse(self, why: str) -> NoReturn:
        raise ValueError(f'{self.path}: {why}; record one for this config with tools/cache_teacher.py')


def rest_of(logits: Tensor, classes: Tensor, tau: float) -> Tensor:
    """(N, ) the one value for all but some classes (N, k) that leaves their sum of probabilities at ``tau`` the same.

    >>> rest_of(torch.tensor([[5., 1., 1.]]), torch.tensor([[0]]), tau=4.0)
    tensor([1.])
    """
    others = logits.scatter(1, classes, -torch.inf)
    return tau * ((others / tau).logsumexp(1) - math.log(logits.size(1) - classes.size(1)))


def fill(rest: Tensor, kept: Tensor, classes: Tensor, count: int) -> Tensor:
    """(N, count) logits that are ``kept`` (N, k) for ``classes`` and ``rest`` (N, ) for all others."""
    return rest[:, None].repeat(1, count).scatter_(1, classes, kept)


def fingerprint_of(teacher: Teacher) -> str:
    return bytes(fingerprint(teacher.model.state_dict()).tolist()).hex()


@torch.no_grad()
def probe_normalization(teacher: Teacher, preprocessor: nn.Module) -> list[float]:
    """How a teacher normalises two pixels of three channels: enough to tell its mean, std and order of channels."""
    pixels = torch.tensor([[0., 100., 200.], [255., 155., 55.]]).view(2, 3, 1, 1)
    device = next((parameter.device for parameter in teacher.parameters()), pixels.device)
    seen = teacher.renormalize(preprocessor(dict(inputs=pixels))['inputs'].to(device))
    return [round(value, 4) for value in seen[:, :, 0, 0].flatten().tolist()]


def check_cacheable(model: Any) -> None:
    """Refuses, in one line, an algorithm whose teachers do more than give logits for the images of a data set."""
    from .data_preprocessors import BatchedDataPreprocessor
    preprocessor, distiller = model.data_preprocessor, model.distiller
    if not isinstance(preprocessor, BatchedDataPreprocessor):
        raise ValueError("teacher_cache needs images that are augmented in batches: data set type="
                         "'mmkd_atsc.BatchedCIFAR100' (or 10) and data_preprocessor type="
                         f"'mmkd_atsc.BatchedDataPreprocessor', not {type(preprocessor).__name__}")
    if preprocessor.batch_augments is not None:
        augments = ', '.join(type(augment).__name__ for augment in preprocessor.batch_augments.augments)
        raise ValueError(f'teacher_cache: batch_augments ({augments}) mix images anew in each step, what the teacher '
                         'says to them cannot be cached')
    if distiller.deliveries.deliveries:
        raise ValueError(f'teacher_cache: distill_deliveries ({", ".join(distiller.deliveries.deliveries)}) need the '
                         'teacher to run')
    for name, recorder in distiller.teacher_recorders.recorders.items():
        for teacher in model.teachers:
            inner = recorder.of(teacher) if hasattr(recorder, 'of') else recorder
            kind = type(inner).__name__.replace('Recorder', '')
            if (kind, inner.source) != ('ModuleOutputs', 'head'):
                raise ValueError(f'teacher_cache: teacher_recorders: {name} records {kind} of {inner.source!r}; '
                                 "a cache holds logits only, ModuleOutputs of 'head'")
