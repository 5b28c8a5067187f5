"""Writes files so that they are there whole or not at all, even when the process is killed or the disk is full."""
import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from mmkd_atsc.errors.checks import TrainingStopped

# The ending of a file's name until it is whole. No pattern for checkpoints (epoch_*.pth) matches it.
UNFINISHED = '.mmkd_unfinished'


def write_whole(path: str | Path, content: bytes) -> None:
    """Writes a file under another name, flushes it to the disk and renames it."""
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
            aside.unlink()  # on a full disk the next file needs its room
        why = error.strerror or error
        raise TrainingStopped(f'{path}: could not be written ({why}); what was saved before is as it was') from None
    with contextlib.suppress(OSError):  # some file systems cannot flush a folder
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # makes the new name outlive a power failure
        finally:
            os.close(descriptor)


class AtomicBackend(LocalBackend):
    """MMEngine's backend for local files, but it writes them whole and removes them by :meth:`remove_noted` alone.

    It removes nothing outside of ``folder``: the checkpoint that a run is resumed from may name another run's files.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).resolve()
        self._noted: list[str] = []

    def put(self, obj: bytes, filepath: str | Path) -> None:
        write_whole(filepath, obj)

    def remove(self, filepath: str | Path) -> None:
        self._noted.append(str(filepath))

    rmtree = remove

    def remove_noted(self, keep: Iterable[str | None]) -> None:
        """Removes the noted files, except those that have been written again since."""
        keep, noted, self._noted = set(keep), self._noted, []
        for path in noted:
            if path not in keep and Path(path).parent.resolve() == self._folder and self.isfile(path):
                super().remove(path)


register_backend('mmkd_atomic', AtomicBackend)
