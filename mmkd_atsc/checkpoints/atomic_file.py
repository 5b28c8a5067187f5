"""Files that are there whole or not at all, whenever the process is killed and whatever the disk does."""
import contextlib
import os
from pathlib import Path
from typing import Iterable, List, Union

from mmengine.fileio import LocalBackend, register_backend

from mmkd_atsc.errors.checks import TrainingStopped

# What a file is called until it is whole. No pattern for checkpoints (epoch_*.pth) matches it.
UNFINISHED = '.mmkd_unfinished'


def write_whole(path: Union[str, Path], content: bytes) -> None:
    """Writes a file aside, flushes it to the disk and renames it: under its name there is the old or the new.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), 'last_checkpoint')
    >>> write_whole(path, b'epoch_1.pth')
    >>> write_whole(path, b'epoch_2.pth')
    >>> path.read_text(), len(list(path.parent.iterdir()))
    ('epoch_2.pth', 1)
    """
    path = Path(path)
    aside = path.with_name(path.name + UNFINISHED)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open('wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()  # on a full disk the next to write needs its room
        raise TrainingStopped(f'{path}: could not be written ({error.strerror or error}); what was saved before is as '
                              'it was') from None
    _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    """Makes renames in a folder last through a power failure; where the file system knows no such thing, nothing."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_unfinished(folder: Union[str, Path]) -> List[Path]:
    """Removes what a killed process had begun to write in a folder; returns the paths."""
    found = sorted(Path(folder).glob(f'*{UNFINISHED}'))
    for path in found:
        path.unlink()
    return found


class AtomicBackend(LocalBackend):
    """MMEngine's backend for local files, whose files appear whole and go only when :meth:`settle` says so.

    MMEngine's CheckpointHook removes the old checkpoint before it saves the new one. Which that is it reads in the
    checkpoint that a run is resumed from: what lies in another folder, of another run or of anybody, is not removed.

    Args:
        folder: Where files may be removed.
    """

    def __init__(self, folder: Union[str, Path]) -> None:
        self._folder = Path(folder).resolve()
        self._outdated: List[str] = []

    def put(self, obj: bytes, filepath: Union[str, Path]) -> None:
        write_whole(filepath, obj)

    def remove(self, filepath: Union[str, Path]) -> None:
        self._outdated.append(str(filepath))

    rmtree = remove

    def settle(self, keep: Iterable[str]) -> None:
        """Removes what was to be removed, but for what has been written anew since."""
        keep, outdated, self._outdated = set(keep), self._outdated, []
        for path in outdated:
            if path not in keep and Path(path).parent.resolve() == self._folder and self.isfile(path):
                super().remove(path)


register_backend('mmkd_atomic', AtomicBackend)
