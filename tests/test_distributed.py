"""Two processes with half the batch each give one process's gradients (batch norm in eval mode)."""
import sys

import torch
from mmengine.registry import MODELS

import mmkd_atsc  # noqa: F401
from tests.conftest import ROOT, run_command, tiny_classifier

METHODS = ('aekt', 'atsc', 'aekt, two teachers', 'atsc, two teachers')
SCRIPT = """
import sys
import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from tests.test_distributed import METHODS, batch_of, build

checkpoint, out = sys.argv[1:]
dist.init_process_group('gloo')
torch.set_num_threads(1)
rank, gradients = dist.get_rank(), {}
for method in METHODS:
    model = MMDistributedDataParallel(build(method, checkpoint), device_ids=None, broadcast_buffers=False,
                                      find_unused_parameters=False)
    for _ in range(2):  # a second step would fail if a parameter of the first had no gradient
        model.zero_grad()
        images, samples = batch_of(slice(4 * rank, 4 * rank + 4))
        losses = model(images, samples, mode='loss')
        model.module.parse_losses(losses)[0].backward()
    gradients[method] = {name: p.grad for name, p in model.module.named_parameters() if p.grad is not None}
if rank == 0:
    torch.save(gradients, out)
dist.barrier()
dist.destroy_process_group()
"""


def build(method, checkpoint):
    torch.manual_seed(0)
    common = dict(teacher=tiny_classifier(8), teacher_ckpt=checkpoint)
    if method.endswith('two teachers'):
        common = dict(teacher=[tiny_classifier(8)] * 2, teacher_ckpt=[checkpoint] * 2, teacher_weights=[3, 1])
    if method.startswith('aekt'):
        distiller = dict(type='mmkd_atsc.AEKTDistiller', num_classes=10)
        config = dict(type='mmkd_atsc.MultiTeacherDistill', architecture=tiny_classifier(4), distiller=distiller)
    else:
        student = tiny_classifier(4)
        projector = dict(in_channels=8, out_channels=16)
        student['neck'] = dict(type='mmkd_atsc.FeatureProjector', **projector)
        student['head'] = dict(type='mmkd_atsc.SharedClassifierHead')
        if method.endswith('two teachers'):
            student['neck'] = dict(type='mmkd_atsc.MultiFeatureProjector',
                                   projectors=dict(teacher0=projector, teacher1=projector))
            student['head'] = dict(type='mmkd_atsc.MultiClassifierHead')
        config = dict(type='mmkd_atsc.AdaptiveTeacherDistill', architecture=student)
    return MODELS.build(dict(config, **common)).eval()


def batch_of(part):
    from mmpretrain.structures import DataSample
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    samples = [DataSample().set_gt_label(label) for label in torch.randint(0, 10, (8, ), generator=generator).tolist()]
    return images[part], samples[part]


def test_two_processes_give_one_processes_gradients(teacher_checkpoint, tmp_path):
    script, out = tmp_path / 'script.py', tmp_path / 'gradients.pth'
    script.write_text(SCRIPT)
    done = run_command(sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2', script,
                       teacher_checkpoint, out, PYTHONPATH=str(ROOT))
    assert out.is_file(), done.stderr
    for method, got in torch.load(out, weights_only=True).items():
        model = build(method, teacher_checkpoint)
        model.parse_losses(model(*batch_of(slice(0, 8)), mode='loss'))[0].backward()
        expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        assert got.keys() == expected.keys()
        assert any(name.startswith('teachers') for name in got) == method.startswith('atsc')
        for name, gradient in expected.items():
            torch.testing.assert_close(got[name], gradient, atol=1e-6, rtol=1e-4, msg=f'{method}: {name}')
