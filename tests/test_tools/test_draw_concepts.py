"""The pictures of the methods name what the code and the log name, and the committed ones are the script's."""
import re

import pytest
import torch
from mmengine.registry import MODELS, DefaultScope
from mmpretrain.structures import DataSample

from analysis.api import registered
from analysis.draw_concepts import PICTURES, ends
from mmkd_atsc import cli
from tests.conftest import ROOT, run_here

pytest.importorskip('matplotlib')


@pytest.fixture(params=PICTURES)
def method(request):
    return request.param


def test_its_names_are_those_of_the_code_and_of_the_log(method):
    texts = ' '.join(box.text for box in PICTURES[method].boxes.values()).split()
    types = {kind.__name__: kind for kinds in registered().values() for kind in kinds}
    named = {text for text in texts if re.fullmatch(r'([A-Z]\w+){2,}', text)}
    config = cli.load_config(str(ROOT / 'configs' / 'demo' / f'{method}_digits.py'), {})
    config.model.update(teacher_ckpt=None, allow_random_teacher=True)
    if method == 'atsc':
        config.model.student_ce_weight = 1.0
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(dict(config.model, data_preprocessor=config.data_preprocessor))
    inside = {type(module).__name__ for module in model.modules()}
    assert len(named) >= 2 and named <= types.keys() & inside
    log = model.loss(torch.randn(2, 3, 32, 32), [DataSample().set_gt_label(label) for label in (1, 2)])
    assert {text for text in texts if 'loss' in text} == {name for name in log if 'loss' in name}


def test_boxes_are_apart_and_arrows_straight(method):
    boxes, arrows = PICTURES[method]
    for name, box in boxes.items():
        for other in (boxes[other] for other in boxes if other != name):
            assert abs(box.x - other.x) >= (box.width + other.width) / 2 or \
                abs(box.y - other.y) >= (box.height + other.height) / 2, name
    for start, end, _ in arrows:
        (x, y), (to_x, to_y) = ends(boxes[start], boxes[end])
        assert (x == to_x) != (y == to_y), (start, end)


def test_the_committed_picture_has_the_words_that_the_script_draws(method, tmp_path):
    run_here('analysis/draw_concepts.py', '--out', tmp_path)
    drawn, committed = [re.findall(r'<text [^>]*>([^<]+)</text>', (folder / f'concepts_{method}.svg').read_text())
                        for folder in (tmp_path, ROOT / 'docs')]
    assert drawn == committed
    assert {line for box in PICTURES[method].boxes.values() for line in box.text.split('\n') if line} <= set(drawn)
