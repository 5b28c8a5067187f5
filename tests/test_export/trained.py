"""Checkpoints as trainings leave them, without training."""
import torch
from mmengine.config import Config

from mmkd_atsc.export.config import build_training
from tests.conftest import ROOT, tiny_classifier

METHODS = ('kd', 'aekt', 'atsc', 'teacher')
CLASSES = tuple('abcdefghij')

PREPROCESSOR = dict(type='mmpretrain.ClsDataPreprocessor', num_classes=10, mean=[120., 110., 100.], std=[60., 65., 70.])


def method_config(method, backbone=None):
    """A demo config with a small teacher, unequal channel statistics, and the student's backbone replaced."""
    config = Config.fromfile(ROOT / 'configs' / 'demo' / f'{method}_digits.py')
    config.data_preprocessor = dict(PREPROCESSOR)
    if method != 'teacher':
        config.model.teacher = tiny_classifier(32)
        config.model.teacher_ckpt = 'not/there.pth'
    if backbone:
        config.model.architecture.backbone = backbone
    return config


def train(config, path, seed=0):
    """The model with weights and statistics as far from their start as after a training, saved as MMEngine does."""
    model = build_training(config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.dim() > 1:
                torch.nn.init.kaiming_normal_(value)
            else:
                value.uniform_(0.5, 1.5) if name.endswith('weight') else value.normal_(0, 0.5)
        for name, value in model.named_buffers():
            if name.endswith('running_mean'):
                value.normal_(0, 0.5)
            elif name.endswith('running_var'):
                value.uniform_(0.5, 2.0)
    optimizer = dict(state={0: dict(momentum_buffer=torch.ones(3))}, param_groups=[dict(lr=0.1, params=[0])])
    torch.save(dict(state_dict=model.state_dict(), optimizer=optimizer, message_hub=dict(log_scalars={}),
                    meta=dict(epoch=40, dataset_meta=dict(classes=CLASSES))), path)
    return model.eval()


def logits(model, pixels):
    """The student's own answer, within the training's model, to pixels as its data set gives them."""
    with torch.no_grad():
        student = getattr(model, 'architecture', model)
        return student(model.data_preprocessor(dict(inputs=pixels))['inputs'], mode='tensor')


def pixels(count, side=32):
    return torch.randint(0, 256, (count, 3, side, side), generator=torch.Generator().manual_seed(count))
