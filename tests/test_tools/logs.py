"""Work directories as trainings leave them, without training."""
import json

from mmengine.config import Config

from tests.conftest import ROOT

TOP = """2026/01/01 00:00:00 - mmengine - INFO -
------------------------------------------------------------
System environment:
    Python: 3.11.7 (main, May  9 2026) [GCC 12.2.0]
    CUDA available: True
    GPU 0,1: NVIDIA H200
    PyTorch: 2.15.0+cu132
    PyTorch compiling details: PyTorch built with:
  - GCC 13.3

Runtime environment:
    Distributed launcher: pytorch
    GPU number: {processes}
------------------------------------------------------------

2026/01/01 00:00:00 - mmengine - INFO - Config:
GPU number: 77
2026/01/01 00:00:00 - mmengine - INFO - packages: mmkd_atsc 0.1.0, mmrazor 1.0.0; threads: 4
"""


def demo_config(name, seed=0, **changes):
    config = Config.fromfile(ROOT / 'configs' / 'demo' / f'{name}.py')
    config.merge_from_dict(dict(dict(randomness=dict(seed=seed), launcher='pytorch'), **changes))
    return config


def lines_of(accuracies, interval=10, epoch=20, time=0.5, **extra):
    """Two lines of training an epoch, and a validation after it."""
    lines = []
    for number, accuracy in enumerate(accuracies, start=1):
        for inner in range(interval, epoch + 1, interval):
            step = (number - 1) * epoch + inner
            lines.append(dict(lr=0.1 / number, loss=3.0 / step, time=time, epoch=number, iter=step, step=step, **extra))
        lines.append({'student/accuracy/top1': accuracy, 'teacher/accuracy/top1': 75.0, 'time': 99.0, 'step': number})
    return lines


def write_run(work_dir, lines, config=None, start='20260101_000000', processes=2):
    """A work directory: JSON lines, config and text log where MMEngine puts them."""
    folder = work_dir / start
    (folder / 'vis_data').mkdir(parents=True)
    (folder / 'vis_data' / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    if config is not None:
        config = Config(dict(config.to_dict(), work_dir=str(work_dir)))
        # What MMEngine's dump says, without the half second that it formats for.
        text = ''.join(f'{key} = {value!r}\n' for key, value in config.to_dict().items())
        for path in (folder / 'vis_data' / 'config.py', work_dir / 'the_config.py'):
            path.write_text(text)
    if processes:
        (folder / f'{start}.log').write_text(TOP.format(processes=processes))
    return work_dir
