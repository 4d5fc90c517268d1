"""Transactions on histories: a run that goes on with a new input and nothing behind it.

Invariant: a run keeps its id, its parent's checkpoint and its sequence of outcomes; a new history begins on a branch that
inherits nothing and lies after the last outcome that the old one was given, so that entering it reads nothing of what was before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from durable_nb.errors import StaleEpochError
from durable_nb.log.branches import open_branch
from durable_nb.log.checkpoints import NO_PARENT
from durable_nb.log.journal import journal
from durable_nb.log.mailboxes import Position, merged, positions_of
from durable_nb.log.payloads import stored

BEGIN_HISTORY = """
INSERT INTO history (run, branch, input, signature, mailboxes, seq_before, run_before, created_at)
VALUES (?, ?, ?, ?, ?, ?, (SELECT max(number) FROM run), ?)"""

CONTINUE = """
UPDATE run SET branch = ?, ready_at = ?, retry_count = 0, worked = 0, is_evicted = 1, owner = NULL, epoch = epoch + 1
WHERE number = ? AND epoch = ?"""


def begin(
    connection: sqlite3.Connection,
    number: int,
    epoch: int,
    *,
    branch: int,
    input: str,
    signature: bytes | None,
    positions: Iterable[Position],
    delivered: int,
    at: float,
) -> None:
    """Continue a run as new.

    Args:
        branch: the one that it leaves; what that waited for is waited for no more.
        positions: how far its mailboxes have come.
        delivered: the last sequence number that it was given.

    Raises:
        StaleEpochError: another worker owns it.
    """
    mailboxes = merged(positions_of(connection, number, branch), positions)
    new = open_branch(connection, number, NO_PARENT, 1, [], "continued as new", at)
    value = stored(connection, input)
    connection.execute(BEGIN_HISTORY, (number, new, value, signature, mailboxes, delivered, at))
    if not connection.execute(CONTINUE, (new, at, number, epoch)).rowcount:
        raise StaleEpochError(f"Run number {number} is not owned by this worker any more (epoch {epoch}): it goes on elsewhere.")
    journal(connection, number, at, "continued", {"branch": new, "ready_at": at})
