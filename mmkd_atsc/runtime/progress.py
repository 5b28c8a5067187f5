"""A training on a terminal: one line that moves, in place of a line every so many iterations."""
import atexit
import logging
import sys
import time
from typing import Any, Dict, List, Optional, Tuple

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmkd_atsc.registry import HOOKS

from .step_terms import is_read

SECONDS_BETWEEN_REFRESHES = 0.5


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows a bar with the time that is left, the losses and the accuracies of student and teachers.

    On a terminal, in the main process, where ``rich`` is installed. The lines of single iterations then go to the log
    file only, all others are printed above the bar. Anywhere else (output to a file, a scheduler's job) it does
    nothing, and MMEngine's lines come as they are.

    It reads no loss from the GPU by itself: it shows those that were last handed to the logger, smoothed as in its
    lines.

    >>> hook = dict(type='mmkd_atsc.ProgressHook')  # in default_hooks or custom_hooks
    """

    # After the logger, and after whatever brings the losses to the message hub for it.
    priority = 'LOW'

    def __init__(self) -> None:
        self.console = None  # a rich.console.Console to take instead of the terminal's
        self._bar = None
        self._place = ''
        self._refreshed = 0.0
        self._handlers: List[Tuple[logging.StreamHandler, Any]] = []

    def before_train(self, runner: Runner) -> None:
        console = self.console or find_terminal()
        if console is None or not is_main_process():
            return
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.table import Column
        texts = TextColumn('{task.fields[losses]}  {task.fields[metrics]}', markup=False,
                           table_column=Column(ratio=1, no_wrap=True, overflow='ellipsis'))
        # No thread that refreshes and no redirected stderr: a data loader's worker that is forked while the thread
        # holds the console's lock would hang with its first warning.
        self._bar = Progress(
            TextColumn('{task.description}', markup=False), BarColumn(20), TaskProgressColumn(),
            TimeRemainingColumn(), texts, console=console, auto_refresh=False, expand=True, redirect_stdout=False,
            redirect_stderr=False, speed_estimate_period=300)
        self._bar.start()
        console.show_cursor(True)  # a process that is killed could not bring it back
        self._place = place(runner)
        self._task = self._bar.add_task(self._place, total=runner.max_iters, completed=runner.iter, losses='',
                                        metrics='')
        self._print_above(runner.logger)
        atexit.register(self.close)

    def _print_above(self, logger: logging.Logger) -> None:
        from rich.file_proxy import FileProxy
        for handler in logger.handlers:
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                self._handlers.append((handler, handler.setStream(FileProxy(self._bar.console, sys.stdout))))
                handler.addFilter(is_no_iteration)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        if self._bar is None:
            return
        if is_read(runner, batch_idx):
            self._update(losses=losses_of(runner))
        self._place = place(runner)
        self._update(completed=runner.iter + 1, description=self._place)

    def before_val(self, runner: Runner) -> None:
        self._update(description='validation')

    def after_val_iter(self, runner: Runner, *args, **kwargs) -> None:
        self._update()

    def after_val_epoch(self, runner: Runner, metrics: Optional[Dict[str, float]] = None) -> None:
        self._update(metrics=text_of_metrics(metrics or {}), description=self._place)

    def _update(self, **changes: Any) -> None:
        if self._bar is None:
            return
        if changes:
            self._bar.update(self._task, **changes)
        now = time.monotonic()
        if now - self._refreshed > SECONDS_BETWEEN_REFRESHES:
            self._bar.refresh()
            self._refreshed = now

    def after_train(self, runner: Runner) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the bar as it is now, and gives the logger its terminal back."""
        if self._bar is None:
            return
        self._bar.refresh()
        self._bar.stop()
        for handler, stream in self._handlers:
            handler.setStream(stream)
            handler.removeFilter(is_no_iteration)
        self._bar, self._handlers = None, []
        atexit.unregister(self.close)


def find_terminal() -> Any:
    """The console of a terminal that can move its cursor; None where there is none, or no rich."""
    if not sys.stdout.isatty():  # rich itself would believe the environment variable FORCE_COLOR
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console()
    return None if console.is_dumb_terminal else console


def is_no_iteration(record: logging.LogRecord) -> bool:
    """Whether a line is of something else than a single iteration, which the bar shows."""
    message = record.getMessage()
    return not (message.startswith('Exp name:') or message.startswith(('Epoch(', 'Iter(')) and ' eta: ' in message)


def place(runner: Runner) -> str:
    if isinstance(runner.train_loop, IterBasedTrainLoop):
        return f'iteration {runner.iter}/{runner.max_iters}'
    return f'epoch {runner.epoch + 1}/{runner.max_epochs}'


def losses_of(runner: Runner) -> str:
    """The losses, smoothed as the logger does it."""
    window = runner.log_processor.window_size
    losses = {name[len('train/'):]: values.mean(window) for name, values in runner.message_hub.log_scalars.items()
              if name.startswith('train/') and 'loss' in name}
    return '  '.join(f'{short_loss(name)} {value:.4g}' for name, value in losses.items())


def short_loss(name: str) -> str:
    """
    >>> [short_loss(name) for name in ('loss', 'distill.loss_align', 'teacher.loss')]
    ['loss', 'align', 'teacher']
    """
    return name.replace('distill.', '').replace('loss_', '').replace('.loss', '')


def text_of_metrics(metrics: Dict[str, float]) -> str:
    """The accuracies, or whatever else was measured.

    >>> text_of_metrics({'student/accuracy/top1': 71.234, 'teacher/accuracy/top1': 75.0, 'student/f1': 0.7})
    'student top1 71.23  teacher top1 75.00'
    """
    accuracies = {name: value for name, value in metrics.items() if 'accuracy' in name} or metrics
    return '  '.join(f'{name.replace("accuracy/", "").replace("/", " ")} {value:.2f}'
                     for name, value in accuracies.items())
