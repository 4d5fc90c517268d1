"""Payload columns: JSON text as it is, or, above 64 KiB, the hash of a text that is kept once.

A text with artifacts (see `tasks.artifacts`) brings them with it, and they are kept in the transaction that keeps the text.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from durable_nb.errors import ArtifactError, LogError
from durable_nb.tasks.artifacts import MARK, ArtifactText

INLINE_BYTES = 64 * 1024


class KeptArtifacts(Mapping[str, bytes]):
    """The artifacts of a log, by hash, each read when it is asked for, on a connection of its own.

    So a run that waits, and a list of runs, hold no artifacts in memory. May be used from any thread.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __getitem__(self, digest: str) -> bytes:
        from durable_nb.log.connection import open_sqlite

        with contextlib.closing(open_sqlite(Path(self._path), query_only=True)) as connection:
            row = connection.execute("SELECT body FROM artifact WHERE hash = ?", (_hash_of(digest),)).fetchone()
        if row is None:
            raise ArtifactError(
                f"The artifact {digest[:12]}… is not in this log: it is of another log, or was removed. Restore a copy."
            )
        return bytes(row[0])

    def __iter__(self) -> Iterator[str]:
        """Give none: those that a text of this log refers to are in it already."""
        return iter(())

    def __len__(self) -> int:
        return 0


def _hash_of(digest: str) -> bytes:
    try:
        return bytes.fromhex(digest)
    except ValueError:
        raise ArtifactError(f"A payload of the log refers to an artifact by {digest!r}, which is no hash.") from None


def stored(connection: sqlite3.Connection, text: str | None) -> str | bytes | None:
    """Give what a payload column is to hold, having kept a large text."""
    if isinstance(text, ArtifactText):
        _keep(connection, text.artifacts)
    if text is None or len(text) <= INLINE_BYTES // 4 or len(text.encode()) <= INLINE_BYTES:
        return text
    digest = hashlib.sha256(text.encode()).digest()
    connection.execute("INSERT OR IGNORE INTO payload VALUES (?, ?)", (digest, text))
    return digest


def _keep(connection: sqlite3.Connection, artifacts: Mapping[str, bytes]) -> None:
    for digest, body in artifacts.items():
        key = bytes.fromhex(digest)
        if connection.execute("SELECT 1 FROM artifact WHERE hash = ?", (key,)).fetchone() is None:
            connection.execute("INSERT INTO artifact VALUES (?, ?)", (key, body))


def loaded(connection: sqlite3.Connection, value: str | bytes | None) -> str | None:
    """Give the text of a payload column."""
    if not isinstance(value, bytes):
        return _with_artifacts(connection, value)
    row = connection.execute("SELECT body FROM payload WHERE hash = ?", (value,)).fetchone()
    if row is None:
        raise LogError(f"The log is damaged: a payload of it ({value.hex()[:12]}…) is missing. Restore a copy.")
    return _with_artifacts(connection, str(row[0]))


def _with_artifacts(connection: sqlite3.Connection, text: str | None) -> str | None:
    if text is None or not text.startswith(MARK):
        return text
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    return ArtifactText(text, KeptArtifacts(path))
