"""Writes a teacher cache: the teachers of an algorithm answer every image of some epochs."""
import contextlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmkd_atsc.checkpoints.atomic_file import UNFINISHED
from mmkd_atsc.errors.checks import check_choice, check_number

from .data_preprocessors.recorded_batch import checksums
from .teacher_cache import DTYPES, MAGIC, CacheHeader, check_cacheable, fingerprint_of, probe_normalization, rest_of


@torch.no_grad()
def record_teachers(model: nn.Module, dataset: Any, path: str, epochs: int = 1, seed: int = 0,
                    topk: int | None = None, tau: float = 4.0, dtype: str = 'float16', batch_size: int = 250,
                    report: Callable[[str], object] = print) -> CacheHeader:
    """Lets the teachers of a ``MultiTeacherDistill`` answer ``epochs`` epochs of a batched data set, into a file.

    The file appears when it is whole; an older one of its name stays until then. Of several recorders of one file the
    last to end gives it.

    Args:
        model: The algorithm, built from the config that will train.
        dataset: Its training data.
        path: The file to write.
        epochs: How many augmentations of each image.
        seed: The ``augment_seed`` that makes them.
        topk: Keep so many logits of an image; None: all.
        tau: The temperature at which the kept probabilities are exact. It matters with ``topk`` only.
        dtype: 'float16' or 'float32'.
        batch_size: Images that a teacher sees at once.
        report: Gets a line of text now and then.
    """
    check_number('epochs', epochs, 1, integer=True)
    check_number('batch_size', batch_size, 1, integer=True)
    check_choice('dtype', dtype, DTYPES)
    check_cacheable(model)
    if not hasattr(dataset, 'augment'):
        raise ValueError(f'the training data are a {type(dataset).__name__}; a cache needs images that are augmented '
                         "in batches, type='mmkd_atsc.BatchedCIFAR100' (or 10), not wrapped in another data set")
    model.data_preprocessor.set_augmentation(seed, epochs)
    model.eval()
    batches = [list(range(start, min(start + batch_size, len(dataset))))
               for start in range(0, len(dataset), batch_size)]
    first = dataset.__getitems__(batches[0])
    classes, = {logits.size(1) for logits in answers(model, first, epoch=0).values()}  # the algorithm has compared them
    augment = first['augment']
    header = CacheHeader(
        type(dataset).__name__, len(dataset), classes, augment.padding, augment.flip_prob, seed, epochs, dtype, topk,
        tau, {name: dict(fingerprint=fingerprint_of(teacher),
                         sees=probe_normalization(teacher, model.data_preprocessor))
              for name, teacher in model.teachers.items()}).check()
    report(f'{header.epoch_bytes():,} bytes an epoch, {header.epoch_bytes() * epochs / 1e6:,.1f} MB in all')
    with whole_file(Path(path)) as file:
        file.write(MAGIC + json.dumps(header._asdict()).encode() + b'\n')
        images = (dataset.__getitems__(rows) for rows in batches)
        file.write(torch.cat([checksums(batch['inputs'], batch['labels']) for batch in images]).numpy().tobytes())
        for epoch in range(epochs):
            records = np.empty(len(dataset), header.record_type())
            for rows in batches:
                for name, logits in answers(model, dataset.__getitems__(rows), epoch).items():
                    keep(records[name][rows[0]:rows[-1] + 1], logits, header)
            file.write(records.tobytes())
            report(f'epoch {epoch + 1} of {epochs}')
    return header


def answers(model: nn.Module, batch: dict, epoch: int) -> dict[str, Tensor]:
    """Each teacher's logits (N, C) for a batch with the augmentation of an epoch."""
    images = model.data_preprocessor(batch, training=True, epoch=epoch)['inputs']
    found = {name: teacher(images) for name, teacher in model.teachers.items()}
    for name, logits in found.items():
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            what = f'of shape {tuple(logits.shape)}' if isinstance(logits, Tensor) else type(logits).__name__
            raise TypeError(f"{name}: the head's output is {what}, a cache holds logits (N, C)")
    return {name: logits.float() for name, logits in found.items()}


def keep(records: np.ndarray, logits: Tensor, header: CacheHeader) -> None:
    """Puts a batch of one teacher's logits into its records."""
    largest = logits.abs().max().item()
    if not largest < float(np.finfo(header.dtype).max):
        raise ValueError(f'a teacher gave a logit of {largest:g}, which {header.dtype} cannot hold')
    if header.topk is not None:
        kept, classes = logits.topk(header.topk, dim=1)
        records['classes'] = classes.cpu().numpy()
        records['rest'] = rest_of(logits, classes, header.tau).cpu().numpy()
        logits = kept
    records['logits'] = logits.cpu().numpy()


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Any]:
    """A file to be written from begin to end, that has its name only then."""
    # A name of its own: another process may be recording the same file, on another machine too.
    aside = path.with_name(f'{path.name}.{uuid.uuid4().hex}{UNFINISHED}')
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with aside.open('xb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
