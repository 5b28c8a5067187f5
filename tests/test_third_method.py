"""A method that a package of its own adds, as docs/adding_a_method.md has it: the page's files and commands."""
import os
import re
import sys

import mmpretrain
import pytest
import torch

from tests.conftest import ROOT, page_commands, page_files, run_command, tool

PAGE = (ROOT / 'docs' / 'adding_a_method.md').read_text()
COMMANDS = page_commands(PAGE)
SHORT = ('--cfg-options', 'train_cfg.max_epochs=1', 'model.teacher_ckpt=None', 'model.allow_random_teacher=True',
         'train_dataloader.dataset.train_images=100')


@pytest.fixture(scope='module')
def done(tmp_path_factory):
    """The folder in which the page's commands ran, and by the tool's name what each of them printed."""
    folder, printed = tmp_path_factory.mktemp('third_method'), {}
    for name, code in page_files(PAGE).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(code)
    assert COMMANDS[0] == ['export', 'PYTHONPATH=$PWD']
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get('PYTHONPATH')])])
    for python, *words in COMMANDS[1:]:
        name = words[1] if words[0] == '-m' else words[0].rsplit('/')[-1]
        words = [str(ROOT / word) if word.startswith('tools/') else word.replace('epoch_40', 'epoch_1')
                 for word in words]
        process = run_command(sys.executable, *words, *(SHORT if name == 'train.py' else ()), cwd=folder,
                              PYTHONPATH=path)
        assert python == 'python' and process.returncode == 0, process.stdout + process.stderr
        printed[name] = process.stdout
    return folder, printed


def test_its_test_passes_and_it_trains_by_its_own_loss(done):
    folder, printed = done
    assert re.search(r'\b2 passed', printed['pytest'])
    log, = (folder / 'work_dirs' / 'cosine_digits').glob('*/vis_data/scalars.json')
    assert '"distill.loss_cosine": ' in log.read_text() and 'loss_kd' not in log.read_text()


def test_it_has_its_own_name_in_tables_and_its_types_where_it_is_not_installed(done, capsys):
    folder, printed = done
    assert '| Cosine | resnet20 → ' in printed['compare.py']
    tool('analysis/compare.py')['main']([str(folder / 'work_dirs' / 'cosine_digits')])
    assert '| CosineDistiller | resnet20 → ' in capsys.readouterr().out


def test_its_student_needs_nothing_of_it(done):
    folder, _ = done
    student = mmpretrain.get_model(str(folder / 'student' / 'student.py'), str(folder / 'student' / 'student.pth'))
    assert student(torch.zeros(2, 3, 32, 32)).shape == (2, 10) and 'cosine_kd' not in sys.modules
    trained = torch.load(folder / 'work_dirs' / 'cosine_digits' / 'epoch_1.pth', weights_only=False)['state_dict']
    for key, value in torch.load(folder / 'student' / 'student.pth', weights_only=True)['state_dict'].items():
        assert torch.equal(value, trained[f'architecture.{key}']), key
