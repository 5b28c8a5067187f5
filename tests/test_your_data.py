"""docs/your_data.md from its images to an exported student, the refusals that it quotes, and the methods' pictures."""
import re
import runpy

import mmpretrain
import pytest
import torch

from analysis.api import registered
from analysis.draw_concepts import PICTURES
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
    for method, picture in PICTURES.items():
        log, = [line for line in scalars(tmp_path / 'work_dirs' / f'my_{method}') if 'lr' in line]
        words = ' '.join(box.text for box in picture.boxes.values()).split()
        assert {word for word in words if 'loss' in word} == {name for name in log if '.loss' in name}
    assert mmpretrain.get_model('student/student.py', 'student/student.pth')(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    refused = [refusal(capsys, 'train.py', 'my_aekt.py', '--work-dir', 'refused', '--cfg-options', FIVE, *more)
               for more in ((), ('model.teacher_ckpt=None', 'model.allow_random_teacher=True'))]
    assert refused == re.findall(r'^error: .*\n', PAGE, flags=re.M)


def test_a_committed_picture_has_the_words_that_the_script_draws(tmp_path):
    pytest.importorskip('matplotlib')
    run_here('analysis/draw_concepts.py', '--out', tmp_path)
    types = {kind.__name__ for kinds in registered().values() for kind in kinds}
    for method, picture in PICTURES.items():
        drawn, committed = [re.findall('<text [^>]*>([^<]+)</text>', (folder / f'concepts_{method}.svg').read_text())
                            for folder in (tmp_path, ROOT / 'docs')]
        assert drawn == committed
        assert {line for box in picture.boxes.values() for line in box.text.split('\n') if line} <= set(drawn)
        named = {word for word in drawn if re.fullmatch(r'[A-Z]+\w*[A-Z]\w+', word)}
        assert len(named) >= 2 and named <= types
