"""Transactions that stop runs from outside."""

from __future__ import annotations

import sqlite3

from durable_nb.log import runs
from durable_nb.log.records import ENDED, Completion, Failure, Outcome


def request_cancel(connection: sqlite3.Connection, number: int, *, at: float, reason: str) -> list[Completion]:
    """Cancel a run that has not ended: its epoch is raised, so that its owner can write nothing more."""
    status, epoch, worked = connection.execute("SELECT status, epoch, worked FROM run WHERE number = ?", (number,)).fetchone()
    if status in ENDED:
        return []
    outcome = Outcome(failure=Failure("RunCancelledError", reason))
    return runs.finish(connection, number, epoch, status="CANCELLED", outcome=outcome, worked=worked, at=at)
