"""The pictures of the methods name what the code names, and the committed ones are the script's."""
import re

import pytest

from analysis.api import registered
from analysis.draw_concepts import PICTURES
from tests.conftest import ROOT, run_here

pytest.importorskip('matplotlib')


def test_a_committed_picture_has_the_words_that_the_script_draws(tmp_path):
    """Whether its losses are those of a log is in test_your_data.py."""
    run_here('analysis/draw_concepts.py', '--out', tmp_path)
    types = {kind.__name__ for kinds in registered().values() for kind in kinds}
    for method, picture in PICTURES.items():
        drawn, committed = [re.findall('<text [^>]*>([^<]+)</text>', (folder / f'concepts_{method}.svg').read_text())
                            for folder in (tmp_path, ROOT / 'docs')]
        assert drawn == committed
        assert {line for box in picture.boxes.values() for line in box.text.split('\n') if line} <= set(drawn)
        named = {word for word in drawn if re.fullmatch(r'[A-Z]+\w*[A-Z]\w+', word)}
        assert len(named) >= 2 and named <= types
