"""Trainings of a network of four parameters, by MMEngine's own runner."""
import itertools
import json
from pathlib import Path

import torch
from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

OURS = dict(runtime_info=dict(type='mmkd_atsc.DeferredRuntimeInfoHook'),
            finite_loss=dict(type='mmkd_atsc.FiniteLossHook'),
            checkpoint=dict(type='mmkd_atsc.AtomicCheckpointHook', interval=1))
_names = itertools.count()


class Toy(BaseModel):
    """With ``factor=nan`` in its data a loss is nan; with ``root=0`` none is, but the gradient of ``loss_root``."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(2, affine=False)
        self.layer = nn.Linear(2, 1)

    def forward(self, inputs, factor, root, mode='tensor'):
        out = self.layer(self.norm(inputs))
        if mode == 'predict':
            return [out]
        losses = dict(loss_fit=out.square().mean(), loss_scaled=0.1 * out.mean() * factor.mean(),
                      loss_root=0 * (out * root).abs().sqrt().mean(), accuracy=(out > 0).double().mean())
        if inputs[0, 0] > 0 or inputs.is_meta:  # a term that comes and goes
            losses['loss_sometimes'] = out.abs().mean()
        return losses


class Score(BaseMetric):
    default_prefix = 'toy'

    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(acc=1.0, err=0.0)


def batches(count=10, **changes):
    """Batches of four images; ``factor={3: nan}`` changes the fourth's."""
    generator = torch.Generator().manual_seed(1)
    made = [dict(inputs=torch.randn(4, 2, generator=generator), factor=torch.ones(1), root=torch.ones(1))
            for _ in range(count)]
    for name, values in changes.items():
        for index, value in values.items():
            made[index][name] = torch.full((1, ), float(value))
    return made


def toy_runner(work_dir, data, train_cfg=None, hooks=None, wrapper=None, interval=4, validate=False, **options):
    optimizer = dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01)
    if validate:
        options.update(val_dataloader=loader(data[:2]), val_cfg=dict(), val_evaluator=Evaluator(Score()))
    return Runner(Toy(), str(work_dir), loader(data), optim_wrapper=dict(optimizer=optimizer, **(wrapper or {})),
                  train_cfg=train_cfg or dict(by_epoch=True, max_epochs=2), default_scope='mmengine',
                  default_hooks=dict(logger=dict(type='LoggerHook', interval=interval), **(hooks or OURS)),
                  experiment_name=f'toy{next(_names)}', **options)


def loader(data):
    return torch.utils.data.DataLoader(data, batch_size=1, collate_fn=lambda batch: batch[0])


def scalar_lines(work_dir):
    """The JSON lines of the (only) run in a folder, in order, without what a clock measured."""
    file, = Path(work_dir).glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in file.open()]
    return [[(name, value) for name, value in line.items() if 'time' not in name] for line in lines]


def checkpoint_of(path):
    return torch.load(path, weights_only=True)
