"""Two processes with half the batch each train as one process does (batch norm in eval mode)."""
import sys

import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from mmkd_atsc.runtime import FastOptimWrapper
from mmkd_atsc.runtime.step_graph import GraphedStep
from tests.conftest import ROOT, run_command, tiny_classifier
from tests.test_runtime.stand_in import StandIn

METHODS = ('aekt', 'atsc', 'atsc + aekt', 'aekt, two teachers', 'atsc, two teachers')
TOGETHER = ROOT / 'configs' / '_base_' / 'methods' / 'atsc_aekt_cifar100.py'
SCRIPT = """
import sys
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmkd_atsc.runtime import FlatDataParallel
from tests.test_distributed import METHODS, gradients_of, weights_of

def in_ddp(model):
    return MMDistributedDataParallel(model, device_ids=None, broadcast_buffers=False, find_unused_parameters=False)

checkpoint, out = sys.argv[1:]
dist.init_process_group('gloo')
torch.set_num_threads(1)
part = slice(4 * dist.get_rank(), 4 * dist.get_rank() + 4)
torch.save({method: (gradients_of(method, checkpoint, part, in_ddp),
                     weights_of(method, checkpoint, part, FlatDataParallel)) for method in METHODS},
           f'{out}{dist.get_rank()}')
dist.barrier()
dist.destroy_process_group()
"""


def build(method, checkpoint):
    torch.manual_seed(torch.distributed.get_rank() if torch.distributed.is_initialized() else 0)  # wrapping agrees
    common = dict(teacher=tiny_classifier(8), teacher_ckpt=checkpoint)
    if method.endswith('two teachers'):
        common = dict(teacher=[tiny_classifier(8)] * 2, teacher_ckpt=[checkpoint] * 2, teacher_weights=[3, 1])
    student = tiny_classifier(4)
    if method.startswith('aekt'):
        config = dict(type='mmkd_atsc.MultiTeacherDistill', distiller=dict(
            type='mmkd_atsc.AEKTDistiller', fc_lr_mult=1.0))  # one group of parameters for all
    else:
        student |= dict(neck=dict(type='mmkd_atsc.FeatureProjector'), head=dict(type='mmkd_atsc.SharedClassifierHead'))
        config = dict(type='mmkd_atsc.AdaptiveTeacherDistill', teacher_lr_mult=1.0)
        if method == 'atsc + aekt':
            config['distiller'] = Config.fromfile(TOGETHER).model.distiller
            config['distiller'].connectors.fc.lr_mult = 1.0  # one group of parameters for all
    return MODELS.build(dict(config, architecture=student, **common)).eval()


def batch_of(part):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    samples = [DataSample().set_gt_label(label) for label in torch.randint(0, 10, (8, ), generator=generator).tolist()]
    return images[part], samples[part]


def gradients_of(method, checkpoint, part, wrap=lambda model: model):
    """Of a second step, which would fail if a parameter of the first had no gradient."""
    model = build(method, checkpoint)
    wrapped = wrap(model)
    for _ in range(2):
        model.zero_grad()
        model.parse_losses(wrapped(*batch_of(part), mode='loss'))[0].backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def weights_of(method, checkpoint, part, wrap=lambda model: model):
    """After nine steps of which most are captured; a teacher that adapts does not in the middle three."""
    model = build(method, checkpoint)
    for module in model.modules():
        module.train = lambda mode=True: None  # batch norm of half a batch is another
    images, samples = batch_of(part)
    model.data_preprocessor.forward = lambda data, training: data
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01, momentum=0.9)
    optim_wrapper = FastOptimWrapper(optimizer=optimizer, clip_grad=dict(max_norm=1.0))
    step = model.train_step = GraphedStep(model, 2, StandIn)
    wrapped, captured = wrap(model), 0
    for number in range(9):
        if number in (3, 6) and method.startswith('atsc'):
            model.set_adapting(number == 6)
        usual = step._usual_steps
        wrapped.train_step(dict(inputs=images, data_samples=samples), optim_wrapper)
        captured += step._usual_steps == usual
    assert captured == (3 if method.startswith('atsc') else 7)
    return dict(model.state_dict())


def test_two_processes_train_as_one(teacher_checkpoint, tmp_path):
    """Their gradients by DistributedDataParallel, and their weights by FlatDataParallel with captured steps."""
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    done = run_command(sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', script,
                       teacher_checkpoint, tmp_path / 'found', PYTHONPATH=str(ROOT))
    assert (tmp_path / 'found1').is_file(), done.stderr
    found = [torch.load(tmp_path / f'found{rank}', weights_only=True) for rank in range(2)]
    for method in METHODS:
        gradients, weights = (of(method, teacher_checkpoint, slice(0, 8)) for of in (gradients_of, weights_of))
        assert any(name.startswith('teachers') for name in gradients) == method.startswith('atsc')
        for got_gradients, got_weights in (processes[method] for processes in found):
            assert got_gradients.keys() == gradients.keys() and got_weights.keys() == weights.keys()
            for name, gradient in gradients.items():
                torch.testing.assert_close(got_gradients[name], gradient, atol=1e-6, rtol=1e-4, msg=f'{method}: {name}')
            for name, weight in weights.items():
                torch.testing.assert_close(got_weights[name], weight, atol=1e-5, rtol=1e-4, msg=f'{method}: {name}')
