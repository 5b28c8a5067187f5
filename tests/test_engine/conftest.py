"""What the tests of hooks share that run toy trainings in their own process."""
import copy

import pytest
from mmengine.registry import DefaultScope


@pytest.fixture
def toy_trainings(monkeypatch):
    """Runners leave no default scope behind, and do not spend a second on listing the machine's software."""
    monkeypatch.setattr(DefaultScope, '_instance_dict', copy.copy(DefaultScope._instance_dict))
    monkeypatch.setattr('mmengine.runner.Runner._log_env', lambda *args: None)
