"""What is wrong with a log, or slow in it, or stuck, and what helps: read only, so that it may be asked of any log at any time.

Invariant: nothing is reported that a healthy log has; each finding says what to do.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from durable_nb.errors import LogError
from durable_nb.log.rebuild import differences
from durable_nb.log.trees import unreferred

Kind = Literal["damage", "stuck", "slow", "note"]
SHOWN = 20  # runs that are named one by one
LATE_SECONDS = 10.0
LARGE_WAL_BYTES = 256 * 2**20

BLOCKED = """
SELECT id, task, blocked_reason FROM run INDEXED BY run_blocked
WHERE blocked_reason IS NOT NULL ORDER BY number LIMIT :limit"""
PAUSED = """
SELECT run.task, count(*) FROM pause JOIN run ON run.task = pause.task WHERE run.status = 'QUEUED' GROUP BY run.task"""
OWNED = "SELECT owner, count(*) FROM run WHERE owner IS NOT NULL GROUP BY owner"
READY = """
SELECT task, home, version, count(*), min(ready_at) FROM run WHERE ready_at <= :late AND gate > 0 AND owner IS NULL
GROUP BY task, home, version ORDER BY min(ready_at) LIMIT :limit"""
DEFINED = "SELECT 1 FROM definition WHERE task = ? AND home = ? LIMIT 1"
STANDING = """
SELECT crowd.kind, crowd.task, crowd.key, crowd.most, count(*) FROM place JOIN crowd ON crowd.number = place.crowd
JOIN run ON run.number = place.run
WHERE place.state = 0 AND run.gate = 0 AND run.ready_at <= :late GROUP BY crowd.number ORDER BY count(*) DESC LIMIT :limit"""
OVERDUE = """
SELECT run.id, run.task, wait.name, wait.due_at FROM wait JOIN run ON run.number = wait.run
WHERE wait.due_at < :late AND wait.matched_at IS NULL AND run.status = 'RUNNING' ORDER BY wait.due_at LIMIT :limit"""
ORPHANED = """
SELECT wait.run, wait.branch, wait.node, wait.name FROM wait LEFT JOIN run ON run.number = wait.run
WHERE wait.matched_at IS NULL AND (run.number IS NULL OR run.status IN ('COMPLETED', 'FAILED', 'CANCELLED')) LIMIT :limit"""
FILTERS = """
SELECT run.id, run.task, wait.key, wait.filter_error FROM wait JOIN run ON run.number = wait.run
WHERE wait.filter_error IS NOT NULL AND wait.matched_at IS NULL LIMIT :limit"""
PENDING = "SELECT count(*), min(accepted_at) FROM event WHERE matched = 0 AND accepted_at < :late"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a person should know of a log.

    Attributes:
        kind: ``"damage"`` (the file, or what it says), ``"stuck"`` (runs that do not go on), ``"slow"`` or ``"note"``.
        text: what, and what helps.
        run_id: of the run that it is about, where it is about one.
    """

    kind: Kind
    text: str
    run_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What `doctor` has found.

    Attributes:
        findings: the worst first.
        facts: sizes and counts by name: `bytes`, `wal_bytes`, `free_bytes`, `runs`, `unfinished`, `events`, `artifact_bytes`.
    """

    findings: tuple[Finding, ...]
    facts: Mapping[str, int]

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is damaged and nothing is stuck."""
        return not any(finding.kind in ("damage", "stuck") for finding in self.findings)


def examine(
    connection: sqlite3.Connection,
    path: Path,
    *,
    at: float,
    is_alive: Callable[[str], bool],
    is_thorough: bool = True,
) -> Report:
    """Look into everything.

    Args:
        is_alive: whether a worker lives, by its id.
        is_thorough: also check every page, and compare the state of every run with what follows from the facts; that reads
            the whole file.
    """
    findings = list(_damage(connection, is_thorough))
    facts: dict[str, int] = {}
    if not any(finding.text.startswith("The file is damaged") for finding in findings):
        findings += [*_stuck(connection, at, is_alive), *_slow(connection, path, facts)]
    order = ("damage", "stuck", "slow", "note")
    return Report(findings=tuple(sorted(findings, key=lambda finding: order.index(finding.kind))), facts=facts)


def _damage(connection: sqlite3.Connection, is_thorough: bool) -> Iterator[Finding]:
    try:
        # Never quick_check: of SQLite 3.40 it takes sound tables without rowid for damaged.
        rows = connection.execute("PRAGMA integrity_check(20)").fetchall() if is_thorough else []
        broken = [text for (text,) in rows if text != "ok"]
        if broken:
            yield Finding(kind="damage", text=f"The file is damaged: {'; '.join(broken)[:1000]}. Restore a backup.")
            return
        for table, _, parent, _ in connection.execute("PRAGMA foreign_key_check").fetchmany(SHOWN):
            yield Finding(
                kind="damage", text=f"A row of '{table}' refers to a row of '{parent}' that is not there: restore a backup."
            )
        if is_thorough:
            try:
                different = differences(connection)
            except LogError as error:
                different = [str(error)]
            for text in different[:SHOWN]:
                yield Finding(
                    kind="damage", text=f"The state does not follow from the journal: {text}. Restore a backup, and tell us."
                )
    except sqlite3.DatabaseError as error:
        yield Finding(kind="damage", text=f"The file is damaged: {error}. Restore a backup.")


def _stuck(connection: sqlite3.Connection, at: float, is_alive: Callable[[str], bool]) -> Iterator[Finding]:
    values = {"limit": SHOWN, "late": at - LATE_SECONDS}
    for run_id, task, reason in connection.execute(BLOCKED, values):
        helps = f"mend what it says, then take it up again: durable.runs.retake('{run_id}')"
        yield Finding(kind="stuck", text=f"'{task}' is blocked: {reason} To go on, {helps}.", run_id=run_id)
    workers = {worker for (worker,) in connection.execute("SELECT id FROM worker")}
    living = {worker for worker in workers if is_alive(worker)}
    for owner, count in connection.execute(OWNED):
        if owner not in living:
            text = f"{_runs(count)} owned by a worker that is dead: the next engine on this log takes them over."
            yield Finding(kind="stuck", text=text)
    for task, count in connection.execute(PAUSED):
        yield Finding(
            kind="note", text=f"'{task}' is paused, and {_runs(count)} waiting for it: durable.queue.unpause('{task}')."
        )
    for task, home, version, count, since in connection.execute(READY, values):
        waited = f"{count} of the runs of '{task}' are ready, the first for {at - since:.0f} s, and no engine takes them"
        if not living:
            yield Finding(kind="stuck", text=f"{waited}, since none is open on this log: open it, or start a worker.")
        elif version is not None and not connection.execute(DEFINED, (task, home)).fetchone():
            yield Finding(kind="stuck", text=f"{waited}: its definition is not in the log; run the cell that defines it.")
        else:
            code = "" if version is None else f" with this code (version {version[:6]})"
            text = (
                f"{waited}: either all slots are taken, or no open engine serves '{task}'{code} (its home, "
                f"{home or 'no notebook'!r}, would with any), or its executor is not there yet."
            )
            yield Finding(kind="stuck", text=text)
    for kind, task, key, most, count in connection.execute(STANDING, values):
        what = f"the rate limit '{key}'" if kind == "rate" else f"the concurrency {key!r} of '{task}' (at most {most})"
        yield Finding(kind="note", text=f"{_runs(count)} waiting for {what}.")
    for run_id, task, name, due in connection.execute(OVERDUE, values):
        text = f"The wait {name} of '{task}' was due {at - due:.0f} s ago: " + (
            "its engine is busy, or was stopped." if living else "no engine is open on this log; open it."
        )
        yield Finding(kind="stuck", text=text, run_id=run_id)
    for number, branch, node, name in connection.execute(ORPHANED, values):
        text = f"The wait {name} (run number {number}, branch {branch}, node {node}) is open, but its run has ended."
        yield Finding(kind="damage", text=text)
    for run_id, task, key, error in connection.execute(FILTERS, values):
        text = (
            f"The filter of '{task}' on the event {key!r} failed ({error}), so the event did not match: mend it, and emit again."
        )
        yield Finding(kind="note", text=text, run_id=run_id)
    count, since = connection.execute(PENDING, values).fetchone()
    if count:
        text = f"{count} events were not matched yet, the oldest for {at - since:.0f} s: the next engine on this log does."
        yield Finding(kind="stuck", text=text)


def _slow(connection: sqlite3.Connection, path: Path, facts: dict[str, int]) -> Iterator[Finding]:
    def one(sql: str) -> int:
        return int(connection.execute(sql).fetchone()[0] or 0)

    page = one("PRAGMA page_size")
    facts |= {
        "bytes": page * one("PRAGMA page_count"),
        "free_bytes": page * one("PRAGMA freelist_count"),
        "wal_bytes": 0,
        "runs": one("SELECT count(*) FROM run"),
        "unfinished": one("SELECT count(*) FROM run WHERE status IN ('QUEUED', 'RUNNING')"),
        "events": one("SELECT count(*) FROM event"),
        "artifact_bytes": one("SELECT sum(length(body)) FROM artifact"),
    }
    with contextlib.suppress(OSError):
        facts["wal_bytes"] = path.with_name(path.name + "-wal").stat().st_size
    if facts["wal_bytes"] > LARGE_WAL_BYTES:
        text = (
            f"The write-ahead log has {facts['wal_bytes'] / 2**20:.0f} MiB: some program has read from the log for long without "
            "an end; close it (a database browser, an open cursor), and it shrinks at the next checkpoint of SQLite."
        )
        yield Finding(kind="slow", text=text)
    if facts["free_bytes"] > max(facts["bytes"] // 2, 64 * 2**20):
        text = (
            f"{facts['free_bytes'] / 2**20:.0f} MiB of the file are free pages, which are used again: to have a smaller file, "
            "close every engine and say VACUUM in sqlite3."
        )
        yield Finding(kind="note", text=text)
    spare = sum(map(len, unreferred(connection)))
    if spare:
        yield Finding(
            kind="note", text=f"{spare} payloads and artifacts belong to nothing any more: durable.upkeep.gc() removes them."
        )


def _runs(count: int) -> str:
    return f"{count} run is" if count == 1 else f"{count} runs are"
