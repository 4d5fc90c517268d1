"""A log for one test: a file that nobody keeps.

SQLite in its `:memory:` form has one connection, and a log has several (the writer, the readers, other engines), so a log that is
wholly in memory is no log of ours. What a test gets is an ordinary log file, in a folder that lives in memory where the system
has one (`/dev/shm` on Linux) and in the temporary folder elsewhere; the folder is removed at the end.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MEMORY = Path("/dev/shm")  # noqa: S108  a folder of its own is made in it


@contextmanager
def memory_log() -> Iterator[Path]:
    """Give the path of a log that is gone at the end of the `with` block; it does not exist yet.

    Example:
        >>> with memory_log() as path:
        ...     path.name, path.exists()
        ('test.db', False)
    """
    folder = MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="durable_nb-", dir=folder, ignore_cleanup_errors=True) as made:
        yield Path(made) / "test.db"
