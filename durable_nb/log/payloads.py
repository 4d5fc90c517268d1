"""Payload columns: JSON text as it is, or, above 64 KiB, the hash of a text that is kept once."""

from __future__ import annotations

import hashlib
import sqlite3

from durable_nb.errors import LogError

INLINE_BYTES = 64 * 1024


def stored(connection: sqlite3.Connection, text: str | None) -> str | bytes | None:
    """Give what a payload column is to hold, having kept a large text."""
    if text is None or len(text) <= INLINE_BYTES // 4 or len(text.encode()) <= INLINE_BYTES:
        return text
    digest = hashlib.sha256(text.encode()).digest()
    connection.execute("INSERT OR IGNORE INTO payload VALUES (?, ?)", (digest, text))
    return digest


def loaded(connection: sqlite3.Connection, value: str | bytes | None) -> str | None:
    """Give the text of a payload column."""
    if not isinstance(value, bytes):
        return value
    row = connection.execute("SELECT body FROM payload WHERE hash = ?", (value,)).fetchone()
    if row is None:
        raise LogError(f"The log is damaged: a payload of it ({value.hex()[:12]}…) is missing. Restore a copy.")
    return str(row[0])
