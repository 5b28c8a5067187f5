"""The tensors of a batch that a captured step reads, and what two batches must have in common to share one."""
from collections.abc import Sequence
from typing import Any

import torch
from mmpretrain.structures import DataSample
from torch import Tensor


def tensors_of(data: Any) -> tuple[dict[str, Tensor], str | None]:
    """The images and the labels of a batch by name; and why no step for it can be captured, None where one can."""
    samples = data.get('data_samples') if isinstance(data, dict) else None
    if not isinstance(samples, Sequence) or set(data) != {'inputs', 'data_samples'}:
        return {}, 'a batch is not images with their data samples'
    if not isinstance(data['inputs'], Tensor):
        return {}, f'the images are a {type(data["inputs"]).__name__}, not one tensor'
    labels = labels_of(samples)
    if not labels or any(value.device != data['inputs'].device for value in labels.values()):
        return {}, 'its samples have more or less than one label or score each, on the device of the images'
    return dict(inputs=data['inputs'], **labels), None


def labels_of(samples: Any) -> dict[str, Tensor]:
    """The labels (N,) and scores (N, C) of data samples; {} where they have others, or not all the same.

    >>> labels_of([DataSample().set_gt_label(3), DataSample().set_gt_label(5)])
    {'gt_label': tensor([3, 5])}
    >>> labels_of([DataSample().set_gt_label([0, 1]), DataSample().set_gt_label(5)])
    {}
    """
    if isinstance(getattr(samples, 'labels', None), Tensor):  # our preprocessor's, which makes no sample unasked
        return dict(gt_label=samples.labels)
    fields = [set(sample.keys()) - {'num_classes'} for sample in samples] or [set()]
    if not fields[0] or not fields[0] <= {'gt_label', 'gt_score'} or any(other != fields[0] for other in fields):
        return {}
    values = {field: [getattr(sample, field) for sample in samples] for field in sorted(fields[0])}
    shapes = {field: {value.shape for value in parts} for field, parts in values.items()}
    if any(len(found) > 1 for found in shapes.values()) or shapes.get('gt_label', {(1, )}) != {(1, )}:
        return {}
    return {field: torch.cat(parts) if field == 'gt_label' else torch.stack(parts) for field, parts in values.items()}


def kind_of(tensors: dict[str, Tensor]) -> tuple:
    """Names, sizes and types of a batch's images and labels."""
    return tuple((name, tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items())


def words(kind: tuple) -> str:
    """A kind of batch, for a message: ``(6, 3, 32, 32) with gt_label``."""
    return f'{kind[0][1]} with {" and ".join(name for name, *_ in kind[1:])}'


def samples_with(labels: dict[str, Tensor], count: int) -> list[DataSample]:
    """Data samples whose labels and scores are views of ``labels``: they change with it."""
    samples = [DataSample() for _ in range(count)]
    for field, values in labels.items():
        for sample, value in zip(samples, values.split(1) if field == 'gt_label' else values):
            sample.set_field(value, field)
    return samples
