"""What trainings in the test's own process need."""
import copy

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture
def in_process(monkeypatch):
    """Runners leave no default scope behind, and do not spend a second on listing the machine's software."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', copy.copy(DefaultScope._instance_dict))
    monkeypatch.setattr('mmengine.runner.Runner._log_env', lambda *args: None)
