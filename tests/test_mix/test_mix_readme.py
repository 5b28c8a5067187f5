"""The tutorial does what it says: its commands run, its configs train."""
import re
import runpy
import shlex

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from tests.conftest import ROOT, tiny_classifier

from .test_compose import STUDENT
from .training import train, write_child

PAGE = (ROOT / 'configs' / 'mix' / 'README.md').read_text()
WRITTEN, RECIPE, TIMM_WEIGHTS, *CONFIGS = re.findall(r'^```python\n(.*?)^```', PAGE, flags=re.M | re.S)
COMMANDS = [shlex.split(line, comments=True) for block in re.findall(r'^```bash\n(.*?)^```', PAGE, flags=re.M | re.S)
            for line in block.replace('\\\n', ' ').splitlines() if 'tools/distill.py' in line]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with the student and the teacher that the commands name."""
    (tmp_path / 'my_student.py').write_text(STUDENT.format(model=tiny_classifier(4)))
    (tmp_path / 'my_teacher.py').write_text(STUDENT.format(model=tiny_classifier(8)))
    torch.manual_seed(0)
    torch.save(MODELS.build(tiny_classifier(8)).state_dict(), tmp_path / 'my_teacher.pth')
    monkeypatch.chdir(tmp_path)
    return tmp_path


def distill(words):
    """Runs a command up to the training, which others test."""
    words = words[words.index('tools/distill.py') + 1:]
    words = words[:words.index('--train')] if '--train' in words else words
    runpy.run_path(str(ROOT / 'tools' / 'distill.py'))['main'](words)
    return words[words.index('--out') + 1]


def test_the_recipe_is_that_of_the_configs(project):
    def plain(value):
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items() if key != '_scope_'}
        return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    (project / 'mine.py').write_text(RECIPE)
    theirs = Config.fromfile(ROOT / 'configs' / 'mix' / 'aekt_resnet34_resnet18_imagenet.py').to_dict()
    assert plain(Config.fromfile('mine.py').to_dict()) == plain(theirs)


def test_the_first_command_writes_what_is_shown(project):
    assert (project / distill(COMMANDS[0])).read_text() == WRITTEN


@pytest.mark.parametrize('words', COMMANDS[1:], ids=[words[words.index('--out') + 1] for words in COMMANDS[1:]])
def test_each_command_writes_a_config_that_builds(words, project):
    config = Config.fromfile(project / distill(words))
    teachers = config.model.teacher
    for teacher in [teachers] if 'cfg_path' in teachers else teachers.values():
        teacher.pop('pretrained', None)  # nothing is downloaded here
    config.model.allow_random_teacher = True
    with DefaultScope.overwrite_default_scope(config.default_scope):
        model = MODELS.build(config.model)
    assert all('my_teacher' not in one.origin or one.fingerprint.any() for one in model.teachers.values())
    if '--train' in words:
        options = words[words.index('--train') + 1:]
        runpy.run_path(str(ROOT / 'tools' / 'train.py'))['parse_args'](['x.py', *options])


def test_there_are_these_configs_of_ones_own():
    assert len(COMMANDS) == 4 and ['timm' in text.lower() for text in CONFIGS] == [True, False, False]


@pytest.mark.parametrize('number', [1, 2])
def test_each_config_trains(number, tmp_path, in_process):
    text = CONFIGS[number]
    mine = tmp_path / 'mine.py'
    mine.write_text(text)
    child = write_child(tmp_path / f'child{number}.py', mine, 64, 1000,
                        'model = dict(teacher=dict(pretrained=False), allow_random_teacher=True)')
    assert 'student/accuracy/top1' in train(child, tmp_path / 'work')
    checkpoint = torch.load(tmp_path / 'work' / 'epoch_1.pth', weights_only=True)
    rates = {group['lr'] for group in checkpoint['optimizer']['param_groups']}
    assert ('ema_state_dict' in checkpoint) == (number == 1)
    # The embedding's, twelve layers', the head's and AEKT's layer's; or the teacher's and all others'.
    assert len(rates) == (1 + 12 + 1 + 1 if number == 1 else 2)


def test_timms_network_teaches(tmp_path, monkeypatch):
    pytest.importorskip('timm')
    monkeypatch.chdir(tmp_path)
    exec(TIMM_WEIGHTS.replace('pretrained=True', 'pretrained=False'), {})
    (tmp_path / 'mine.py').write_text(CONFIGS[0])
    config = Config.fromfile('mine.py')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(config.model, data_preprocessor=config.data_preprocessor))
    assert model.first_teacher.fingerprint.any() and model.first_teacher.renormalize.identity
    assert model.first_teacher(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
