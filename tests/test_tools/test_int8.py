"""tools/export_student.py --int8: what it scores, what it writes, when it refuses."""
import re

import numpy as np
import onnx
import pytest
import torch
from mmengine.config import Config

from analysis.int8 import DeployedImages
from mmkd_atsc.datasets import Digits
from mmkd_atsc.export.config import build_training
from mmkd_atsc.export.formats import load_onnx
from mmkd_atsc.export.int8 import quantize
from tests.conftest import ROOT, refusal, run_here, scalars
from tests.tiny_cifar import TinyCIFAR100  # noqa: F401  registers it


def accuracies(said):
    return {file: float(accuracy) for file, accuracy in re.findall(r'^\| (\S+) \| [\d.]+ \| ([\d.]+) \|', said, re.M)}


@pytest.fixture
def trained(tiny_config, tmp_path, in_process):
    """A config, the run of a short training, and the folder to export to."""
    run_here('train.py', tiny_config, '--work-dir', tmp_path / 'run', '--cfg-options', 'train_cfg.max_epochs=5',
             'train_cfg.val_interval=5', 'default_hooks.checkpoint.interval=5', 'param_scheduler.milestones=[4]',
             'train_dataloader.dataset.train_images=1600', 'train_dataloader.batch_size=50',
             'optim_wrapper.optimizer.lr=0.1', 'optim_wrapper.optimizer.momentum=0.9')
    return tiny_config, tmp_path / 'run', tmp_path / 'out'


@pytest.mark.parametrize('bits', [8, 7])
def test_both_files_are_scored_on_the_validation_data(trained, bits, capsys):
    config, run, out = trained
    mixup = ['model.train_cfg.augments.type=Mixup', 'model.train_cfg.augments.alpha=0.8']  # it makes labels one-hot
    options = ['--with-preprocessing', '--cfg-options', *mixup] * (bits == 7)
    run_here('export_student.py', config, run, '--int8', '--max-drop', 5, '--weight-bits', bits, *options, '--out', out)
    told = accuracies(capsys.readouterr().out)
    assert told['student.onnx'] == pytest.approx(scalars(run)[-1]['accuracy/top1'], abs=0.005)
    assert told['student.onnx'] > 50, 'a network that knows nothing loses nothing'
    samples = list(Digits(split='test', train_images=1600, pipeline=[]))
    pixels = torch.stack([torch.from_numpy(sample['img']).permute(2, 0, 1).float() for sample in samples])
    labels = torch.tensor([sample['gt_label'] for sample in samples])
    for file, accuracy in told.items():
        logits = load_onnx(out / file)(pixels if options else (pixels - 127.5) / 127.5)
        assert accuracy == pytest.approx(100 * (logits.argmax(1) == labels).float().mean().item(), abs=5e-3), file
    fp32, int8 = (onnx.load(out / file) for file in ('student.onnx', 'student_int8.onnx'))
    kernels = [onnx.numpy_helper.to_array(weight) for weight in int8.graph.initializer if len(weight.dims) == 4]
    assert {kernel.dtype for kernel in kernels} == {np.dtype('int8')} and len(kernels) == 9
    assert max(np.abs(kernel.astype(int)).max() for kernel in kernels) == {8: 127, 7: 64}[bits]
    notes = [{prop.key: prop.value for prop in model.metadata_props} for model in (fp32, int8)]
    assert notes[0].items() <= notes[1].items()


def test_an_int8_file_that_loses_too_much_is_not_written(trained, monkeypatch, capsys):
    def badly_calibrated(file, images, *rest):
        quantize(file, (batch * 1e-2 for batch in images), *rest)

    config, run, out = trained
    monkeypatch.setattr('analysis.int8.quantize', badly_calibrated)
    out.mkdir()
    (out / 'student_int8.onnx').touch()  # an earlier export's
    said = refusal(capsys, 'export_student.py', config, run, '--int8', '--out', out)
    lost, fp32, int8 = map(float, re.search(r'loses (\S+) points .*\((\S+) % in fp32, (\S+) % in int8\), at most 1 is '
                                            'allowed; --max-drop allows more', said).groups())
    assert lost > 1 and fp32 - int8 == pytest.approx(lost, abs=0.02)
    assert sorted(path.name for path in out.iterdir()) == ['student.onnx', 'student.pth', 'student.py']


@pytest.mark.parametrize('options, said', [
    (['--image-size', '24x40'], 'train_dataloader gives images of 32x32, student.onnx takes 24x40'),
    (['--cfg-options', 'val_dataloader.drop_last=True'], 'train_dataloader gives no batch'),
])
def test_data_that_does_not_fit_the_file_is_named(options, said, tiny_config, tmp_path, capsys):
    torch.save(build_training(Config.fromfile(tiny_config)).state_dict(), tmp_path / 'w.pth')
    assert said in refusal(capsys, 'export_student.py', tiny_config, tmp_path / 'w.pth', '--out', tmp_path / 'out',
                           '--int8', *options)


@pytest.mark.parametrize('options, said', [
    (['--max-drop', 2], '--max-drop is for --int8'),
    (['--int8', '--max-drop', -1], '--max-drop=-1.0 must be a number at least 0'),
    (['--int8', '--cfg-options', 'val_dataloader=None'], 'defines no val_dataloader'),
    (['--int8', '--cfg-options', 'train_dataloader.dataset.data_root=nowhere',
      'train_dataloader.dataset.download=False'], 'nowhere'),
])
def test_what_is_missing_is_said_before_anything_is_written(options, said, tmp_path, capsys):
    assert said in refusal(capsys, 'export_student.py', ROOT / 'configs/short/resnet20.py',
                           'mmkd_atsc::weights/short_resnet20', '--out', tmp_path / 'out', *options)
    assert not (tmp_path / 'out').exists()


def test_calibration_takes_training_images_without_augmentation():
    config = Config.fromfile(ROOT / 'configs/short/resnet20.py')
    for stage in ('train', 'val'):
        config[f'{stage}_dataloader'].dataset.update(type='mmkd_atsc.TinyCIFAR100', data_root='none')
    config.val_dataloader.batch_size = 16
    images = DeployedImages(config, with_preprocessing=True)
    drawn = torch.cat(list(images.calibration(40)))
    everything = {tuple(image.flatten().tolist()) for batch, _ in images.validation() for image in batch.round()}
    assert len(drawn) == 40 and len(everything) == 70
    assert len({tuple(image.flatten().tolist()) for image in drawn.round()} & everything) == 40
    assert torch.equal(drawn, torch.cat(list(images.calibration(40))))
