"""What running tasks say: log lines, streamed chunks, progress. None of it is a checkpoint.

Invariant: only the run's owner is heard. Each row is written under the epoch of the attempt that said it, so what an abandoned
attempt (a thread over its time, a worker that lost the run) still says is dropped, and nobody takes it for the next one's.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from durable_nb.log.journal import journal
from durable_nb.log.records import ENDED, Claim

INSERT_LINE = """
INSERT INTO line (run, attempt, at, level, line, text)
SELECT number, ?, ?, ?, ?, ? FROM run WHERE number = ? AND (epoch = ? OR ?)"""

INSERT_CHUNK = """
INSERT INTO chunk (run, attempt, at, data)
SELECT number, ?, ?, ? FROM run WHERE number = ? AND epoch = ?"""

SET_PROGRESS = "UPDATE run SET progress = ?, progress_message = ? WHERE number = ? AND epoch = ?"

CHUNKS = "SELECT seq, data FROM chunk WHERE run = ? AND seq > ? ORDER BY seq LIMIT ?"


@dataclass(frozen=True, slots=True)
class Said:
    """One thing that a task said.

    Attributes:
        what: a line's text, a chunk's data, or None for progress.
        level: of a line; None for a chunk. line: of the task's source, where that is known.
        is_output: it was printed, so it is taken down whoever owns the run by now, as its own attempt's.
        fraction: of progress, 0 to 1, with its message.
    """

    claim: Claim
    at: float
    what: str | bytes | None = None
    level: str | None = None
    line: int | None = None
    is_output: bool = False
    fraction: float | None = None
    message: str | None = None


def write_said(connection: sqlite3.Connection, said: Iterable[Said]) -> None:
    """Write what tasks said, in order; of a run's progress only the last."""
    progress: dict[tuple[int, int], Said] = {}
    for item in said:
        claim = item.claim
        place, attempt = (claim.number, claim.epoch), claim.retry_count + 1
        if item.fraction is not None:
            progress[place] = item
        elif item.level is not None:
            connection.execute(INSERT_LINE, (attempt, item.at, item.level, item.line, item.what, *place, item.is_output))
        else:
            connection.execute(INSERT_CHUNK, (attempt, item.at, item.what, *place))
    for place, item in progress.items():
        if connection.execute(SET_PROGRESS, (item.fraction, item.message, *place)).rowcount:
            journal(connection, place[0], item.at, "progressed", {"progress": item.fraction, "progress_message": item.message})


def chunks_after(connection: sqlite3.Connection, run: int, seq: int, limit: int) -> tuple[list[tuple[int, str | bytes]], bool]:
    """Give a run's next chunks with their numbers, and whether no other will come."""
    (status,) = connection.execute(
        "SELECT status FROM run WHERE number = ?", (run,)
    ).fetchone()  # first: an ended run says no more
    rows = connection.execute(CHUNKS, (run, seq, limit)).fetchall()
    return rows, status in ENDED and len(rows) < limit
