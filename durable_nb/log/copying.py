"""A copy of a log, taken while engines write to it: SQLite's own backup, which is consistent whoever writes meanwhile.

Invariant: the copy appears under its name when it is whole, and no file is ever written over.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from durable_nb.errors import LogError
from durable_nb.log.connection import explain, open_sqlite

PAGES = 1024  # that are copied at once
PAUSE_SECONDS = 0.005  # between, so that writers get their turn


def backup(source: Path, target: Path) -> Path:
    """Copy a log; give the copy's path. Blocking.

    Raises:
        LogError: there is such a file already, or it cannot be written; NotALogError: the log is damaged.
    """
    with new_file(target) as temporary:
        try:
            with (
                contextlib.closing(open_sqlite(source, query_only=True)) as log,
                contextlib.closing(sqlite3.connect(temporary)) as copy,
            ):
                log.backup(copy, pages=PAGES, sleep=PAUSE_SECONDS)
                copy.execute("PRAGMA journal_mode = DELETE")  # one file, with nothing beside it
        except sqlite3.Error as error:
            raise explain(error, source) from error
    return target


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """Give a path beside `target`, private to its owner, that becomes `target` at the end of the block, unless it fails.

    Raises:
        LogError: there is such a file already, or its folder cannot be written.
    """
    if target.exists():
        raise LogError(f"{target} exists already, and nothing is written over: name another file, or remove it.")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except OSError as error:
        raise LogError(f"{target} cannot be written ({(error.strerror or str(error)).lower()}): name another file.") from None
    try:
        yield temporary
        if os.name == "nt":
            temporary.rename(target)
        else:
            os.link(temporary, target)
    except FileExistsError:
        raise LogError(f"{target} exists already, and nothing is written over: name another file, or remove it.") from None
    finally:
        temporary.unlink(missing_ok=True)
