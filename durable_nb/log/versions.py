"""Transactions on the version of code that a run executes.

Invariant: a run gets another version only while nobody owns it, and only if nothing was recorded for it since its history was
read: so what was checked is what is moved. Its owner may give it the one before again, once, and only if nothing was asked since.
"""

from __future__ import annotations

import json
import sqlite3

from durable_nb.log.checkpoints import first_branch
from durable_nb.log.journal import journal
from durable_nb.log.queue import CLAIM, as_claim
from durable_nb.log.records import Claim, NewRun
from durable_nb.log.runs import fence

RETURNED = CLAIM.rpartition("RETURNING ")[2]  # a claim's columns, in the order of its fields

OUTDATED = """FROM run INDEXED BY run_status
WHERE status IN ('QUEUED', 'RUNNING') AND task = ? AND home = ? AND version IS NOT ?"""

COUNT = f"SELECT count(*) {OUTDATED}"

LIST = f"SELECT {RETURNED}, last_seq {OUTDATED} ORDER BY number LIMIT ?"

MOVE = """
UPDATE run SET version = ?, signature = ?
WHERE number = ? AND owner IS NULL AND status IN ('QUEUED', 'RUNNING') AND branch = ? AND last_seq = ? AND version IS ?"""

LAST_MOVE = "SELECT at, data FROM journal WHERE run = ? AND kind = 'moved' ORDER BY seq DESC LIMIT 1"

ASKED_SINCE = "SELECT 1 FROM checkpoint WHERE run = ? AND asked_at > ? LIMIT 1"


def count_outdated(connection: sqlite3.Connection, task: str, version: str, *, home: str) -> int:
    """Give how many unfinished runs of a task have another version."""
    return int(connection.execute(COUNT, (task, home, version)).fetchone()[0])


def list_outdated(connection: sqlite3.Connection, task: str, version: str, *, home: str, limit: int) -> list[tuple[Claim, int]]:
    """Give unfinished runs of a task that have another version, as claims of nobody, each with its last sequence number."""
    rows = connection.execute(LIST, (task, home, version, limit)).fetchall()
    return [(as_claim(connection, row[:-1]), row[-1]) for row in rows]


def move(connection: sqlite3.Connection, claim: Claim, version: str, signature: bytes, *, seq: int, at: float) -> bool:
    """Have a run executed by another version from its next entry on; give whether it still was as it was read."""
    done = connection.execute(MOVE, (version, signature, claim.number, claim.branch, seq, claim.version))
    if done.rowcount:
        _moved(connection, claim, version, signature, at, {})
    return bool(done.rowcount)


def renew(connection: sqlite3.Connection, number: int, run: NewRun, *, former: str | None, at: float) -> None:
    """Give a run that was just made another version, from which it may fall back."""
    connection.execute("UPDATE run SET version = ?, signature = ? WHERE number = ?", (run.version, run.signature, number))
    signature = run.signature.hex() if run.signature else None
    journal(connection, number, at, "moved", {"version": run.version, "from": former, "signature": signature})


def former_version(connection: sqlite3.Connection, number: int, version: str | None) -> str | None:
    """Give the version from which a run was moved to the one that it has; None if it was not, or has asked something since."""
    row = connection.execute(LAST_MOVE, (number,)).fetchone()
    if row is None:
        return None
    at, said = row[0], json.loads(row[1])
    if said["version"] != version or said.get("is_back") or connection.execute(ASKED_SINCE, (number, at)).fetchone():
        return None
    return None if said["from"] is None else str(said["from"])


def move_back(connection: sqlite3.Connection, claim: Claim, version: str, signature: bytes | None, *, at: float) -> None:
    """Give a run that its claimer owns the version that it had before, since its history does not replay with the new one."""
    fence(connection, claim.number, claim.epoch)
    connection.execute("UPDATE run SET version = ?, signature = ? WHERE number = ?", (version, signature, claim.number))
    _moved(connection, claim, version, signature, at, {"is_back": True})


def _moved(
    connection: sqlite3.Connection, claim: Claim, version: str, signature: bytes | None, at: float, more: dict[str, object]
) -> None:
    if claim.branch > 1:  # where it was continued as new, what is signed is the input of that history
        place = (claim.number, first_branch(connection, claim.number, claim.branch))
        connection.execute("UPDATE history SET signature = ? WHERE run = ? AND branch = ?", (signature, *place))
    said: dict[str, object] = {
        "version": version,
        "from": claim.version,
        "signature": signature.hex() if signature else None,
        **more,
    }
    journal(connection, claim.number, at, "moved", said)
