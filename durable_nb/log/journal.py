"""The journal: transitions of runs, in order. The current state of a run follows from them."""

from __future__ import annotations

import json
import sqlite3


def journal(connection: sqlite3.Connection, number: int, at: float, kind: str, data: dict[str, object]) -> None:
    """Append a transition."""
    connection.execute(
        "INSERT INTO journal (run, at, kind, data) VALUES (?, ?, ?, ?)", (number, at, kind, json.dumps(data, ensure_ascii=False))
    )
