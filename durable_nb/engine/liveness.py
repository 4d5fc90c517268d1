"""Who is alive: a worker holds an operating-system lock on a file of its own for as long as its process lives.

The kernel releases the lock at the process's death, however it dies, so there is no heartbeat to miss and no pid to guess.
BSD locks (`flock`) are used rather than POSIX record locks, since those are lost when *any* descriptor of the file is
closed in the process. A fork would share the lock with its parent's, so the child closes it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        """Take the lock of an open file if nobody has it."""
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        """Take the lock of an open file if nobody has it."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


class LifeLock:
    """A worker's sign of life, held until `release` or the end of the process."""

    def __init__(self, log: Path, worker: str) -> None:
        self.path = lock_path(log, worker)
        self.path.parent.mkdir(mode=0o700, exist_ok=True)
        self._descriptor: int | None = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
        _lock(self._descriptor)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._close)

    def release(self) -> None:
        """Give up the lock and remove its file."""
        self._close()
        self.path.unlink(missing_ok=True)

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def lock_path(log: Path, worker: str) -> Path:
    """Give the file whose lock tells that a worker of this log lives."""
    return log.with_name(log.name + "-workers") / worker


def is_alive(log: Path, worker: str) -> bool:
    """Tell whether a worker's process still holds its lock; where that cannot be told (too many open files), it lives."""
    try:
        descriptor = os.open(lock_path(log, worker), os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def bury(log: Path, worker: str) -> None:
    """Remove what a dead worker left."""
    with contextlib.suppress(OSError):
        lock_path(log, worker).unlink(missing_ok=True)
