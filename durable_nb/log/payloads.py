"""Payload columns: JSON text as it is, or, above 64 KiB, the hash of a text that is kept once."""

from __future__ import annotations

import hashlib
import sqlite3

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
    return str(connection.execute("SELECT body FROM payload WHERE hash = ?", (value,)).fetchone()[0])
