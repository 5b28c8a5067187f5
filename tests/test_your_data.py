"""docs/your_data.md from its images to an exported student, and the refusals that it quotes."""
import re
import runpy

import mmpretrain
import torch

from tests.conftest import ROOT, page_commands, page_files, refusal, run_here, scalars

PAGE = (ROOT / 'docs' / 'your_data.md').read_text()
SHORT = ('train_cfg.max_epochs=1', 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0')
FIVE = 'model.teacher.head.num_classes=5'


def test_the_page_does_what_it_says(tmp_path, monkeypatch, in_process, capsys):
    monkeypatch.chdir(tmp_path)
    for name, code in page_files(PAGE).items():
        (tmp_path / name).write_text(code)
    for _, script, *words in page_commands(PAGE):
        if script.startswith('tools/'):
            run_here(script[len('tools/'):], *words, *(('--cfg-options', *SHORT) if 'train.py' in script else ()))
        else:
            runpy.run_path(script)
    said = capsys.readouterr().out
    assert all(f'| {method} |' in said for method in ('student alone', 'AEKT', 'ATSC')), said
    assert 'distill.loss_aekt' in scalars(tmp_path / 'work_dirs' / 'my_aekt')[0]
    assert mmpretrain.get_model('student/student.py', 'student/student.pth')(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    refused = [refusal(capsys, 'train.py', 'my_aekt.py', '--work-dir', 'refused', '--cfg-options', FIVE, *more)
               for more in ((), ('model.teacher_ckpt=None', 'model.allow_random_teacher=True'))]
    assert refused == re.findall(r'^error: .*\n', PAGE, flags=re.M)
