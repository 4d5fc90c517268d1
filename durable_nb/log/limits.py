"""Concurrency and rate limits: who is let in, in the transactions that write, claim and end runs.

A run that has limits stands in a *lineup*: that of all runs of its task with the very same limits and keys. Each key of a limit
is a *crowd*, which holds so many runs at once ('runs'), or takes so many units in a sliding window of time ('rate').

Invariants:
- places are rows, counted where they are given, so that they are given once over all processes and no crash leaks one;
- a run leaves its lineup when every crowd of it has room (`gate` 1), and only then it is among the ready runs, so that claiming
  reads no run that must wait;
- of each lineup one run at most is let in and not claimed yet. It queues behind those that were ready before, which makes
  lineups of equal priority take turns;
- in any window of a rate at most its units are used: the log of uses is exact. (A sliding window log; token buckets and fixed
  windows let up to twice the limit through within one window. The three are compared in "An alternative approach to rate
  limiting", Figma, 2017.)
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from durable_nb.errors import RateLimitError
from durable_nb.log.endings import cancel
from durable_nb.log.journal import journal
from durable_nb.log.needs import Need
from durable_nb.log.records import Effects, NewRun

ROUNDING = 1e-6  # seconds, more than sums of times lose
SKEW_SECONDS = 5.0  # more than lies between the reading of the clock and the transaction, in whichever process
RESERVE_SECONDS = 1.0  # for which units are kept for a run that is let in: its task may be paused, or served by nobody
BATCH = 20

FIND_CROWD = "SELECT number, most, seconds FROM crowd WHERE kind = ? AND task = ? AND expression = ? AND key = ?"
TAKEN = "SELECT count(*) FROM place WHERE crowd = ? AND state > 0"
RESERVED = """
SELECT coalesce(sum(place.units), 0), min(run.ready_at) FROM place JOIN run ON run.number = place.run
WHERE place.crowd = ? AND place.state = 1 AND run.ready_at > ?"""
STANDING = "SELECT run FROM place WHERE crowd = ? AND state IN (0, 1) ORDER BY run"
HEAD = "SELECT 1 FROM run WHERE lineup = ? AND gate = 1"
FIRST = "SELECT number, priority FROM run WHERE lineup = ? AND gate = 0 ORDER BY priority DESC, number LIMIT 1"
NEEDS = """
SELECT crowd.number, crowd.kind, crowd.most, crowd.seconds, place.units, place.state
FROM place JOIN crowd ON crowd.number = place.crowd WHERE place.run = ?"""
LINEUPS = """
SELECT rank, turn, lineup FROM lineup WHERE crowd = ? AND (rank, turn, lineup) > (?, ?, ?) ORDER BY rank, turn, lineup LIMIT ?"""
WEAKER_HEAD = """
SELECT run.number, run.lineup, run.priority FROM place JOIN run ON run.number = place.run
WHERE place.crowd = ? AND place.state = 1 AND run.gate = 1 AND run.priority < ? ORDER BY run.priority, run.number DESC LIMIT 1"""
USED_FROM = "SELECT at, units FROM spend WHERE crowd = ? ORDER BY at"
DUE = "SELECT number FROM crowd WHERE due_at <= ?"
NEXT_DUE = "SELECT min(due_at) FROM crowd WHERE due_at IS NOT NULL"


@dataclass(frozen=True, slots=True)
class Crowd:
    """A crowd as far as a decision needs it, with the units that one run wants."""

    number: int
    kind: str
    most: int
    seconds: float | None
    units: int
    state: int | None = 0


# ---------------------------------------------------------------- a new run


def crowds_of(connection: sqlite3.Connection, needs: Sequence[Need]) -> list[Crowd]:
    """Give the crowds of a new run, in order of number; a limit that was declared anew holds from now on.

    Raises:
        RateLimitError: a static key that nobody set, or more units than its limit ever has; nothing of the run is written yet.
    """
    found: dict[int, Crowd] = {}
    for need in needs:
        row = connection.execute(FIND_CROWD, (need.kind, need.task, need.expression, need.key)).fetchone()
        most = need.most if need.most is not None else row and row[1]
        if most is None:
            raise RateLimitError(
                f"The rate limit '{need.key}' is not set in this log: say durable.rate_limits.put('{need.key}', limit) first."
            )
        if need.kind == "rate" and need.units > most:
            raise RateLimitError(
                f"The run needs {need.units} units of the rate limit '{need.key}', which has {most} in a window."
            )
        seconds = need.seconds if need.seconds is not None else row and row[2]
        number = put_crowd(connection, need.kind, need.task, need.expression, need.key, most=most, seconds=seconds)
        units = need.units + (found[number].units if number in found else 0)  # two limits of one task may have the same key
        found[number] = Crowd(number, need.kind, most, seconds, units)
    return [found[number] for number in sorted(found)]


def put_crowd(
    connection: sqlite3.Connection, kind: str, task: str, expression: str, key: str, *, most: int, seconds: float | None
) -> int:
    """Set how much room a crowd has; give its number. Those who wait are let in where there is more than before."""
    row = connection.execute(FIND_CROWD, (kind, task, expression, key)).fetchone()
    if row is None:
        cursor = connection.execute(
            "INSERT INTO crowd (kind, task, expression, key, most, seconds) VALUES (?, ?, ?, ?, ?, ?)",
            (kind, task, expression, key, most, seconds),
        )
        return int(cursor.lastrowid or 0)
    if row[1:] != (most, seconds):
        connection.execute("UPDATE crowd SET most = ?, seconds = ? WHERE number = ?", (most, seconds, row[0]))
        free(connection, [row[0]])
    return int(row[0])


def lineup_of(run: NewRun, crowds: Sequence[Crowd]) -> str | None:
    """Give the lineup of a run with these crowds: of its task and home, so that a worker serves all of it or nothing."""
    return f"{','.join(str(crowd.number) for crowd in crowds)}:{run.task}@{run.home}" if crowds else None


def _crowds_in(lineup: str) -> list[int]:
    return [int(number) for number in lineup.partition(":")[0].split(",")]


def supersede(connection: sqlite3.Connection, run: NewRun, crowds: Sequence[Crowd], effects: Effects, *, at: float) -> str | None:
    """Do what the strategies of a new run ask for where there is no room; give why it is to be cancelled itself, or None."""
    strict = [need for need in run.needs if need.strategy in ("CANCEL_IN_PROGRESS", "CANCEL_NEWEST")]
    for need in sorted(strict, key=lambda need: need.strategy, reverse=True):  # nobody makes room for one that is cancelled
        number = connection.execute(FIND_CROWD, (need.kind, need.task, need.expression, need.key)).fetchone()[0]
        most = next(crowd.most for crowd in crowds if crowd.number == number)
        standing = [row[0] for row in connection.execute(STANDING, (number,))]
        said = f"{most} of the concurrency key '{need.key}'"
        if len(standing) < most:
            continue
        if need.strategy == "CANCEL_NEWEST":
            return f"there were {said} already (CANCEL_NEWEST)"
        for older in standing[: len(standing) - most + 1]:
            connection.execute("UPDATE place SET state = 2 WHERE run = ? AND state = 1", (older,))
            reason = f"a newer run came, and there may be {said} (CANCEL_IN_PROGRESS)"
            effects.add(cancel(connection, older, reason=reason, at=at)[1])
    return None


def may_enter(connection: sqlite3.Connection, lineup: str, crowds: Sequence[Crowd], *, at: float) -> bool:
    """Whether a new run need not wait: there is room for it everywhere, and nobody waits for any of it."""
    for crowd in crowds:
        if connection.execute("SELECT 1 FROM lineup WHERE crowd = ? LIMIT 1", (crowd.number,)).fetchone():
            return False
    return not connection.execute(HEAD, (lineup,)).fetchone() and all(_has_room(connection, crowd, at) for crowd in crowds)


def enter(
    connection: sqlite3.Connection,
    number: int,
    lineup: str,
    priority: int,
    crowds: Sequence[Crowd],
    *,
    is_let_in: bool,
    is_claimed: bool,
    at: float,
) -> None:
    """Write what a new run needs: it is claimed, or let in to be claimed, or stands in its lineup."""
    for crowd in crowds:
        state = None if is_claimed and crowd.kind == "rate" else int(is_let_in)
        connection.execute("INSERT INTO place VALUES (?, ?, ?, ?)", (number, crowd.number, crowd.units, state))
        if is_claimed and crowd.kind == "rate":
            _spend(connection, crowd, at)
    if not is_let_in:
        _stand(connection, lineup, priority)
        for crowd in crowds:
            _give_way(connection, crowd.number, priority)
        free(connection, [crowd.number for crowd in crowds])


def _give_way(connection: sqlite3.Connection, crowd: int, priority: int) -> None:
    """Have a less urgent run that nobody has claimed yet stand back for one that comes now."""
    row = connection.execute(WEAKER_HEAD, (crowd, priority)).fetchone()
    if row is not None:
        number, lineup, its_priority = row
        connection.execute("UPDATE run SET gate = 0 WHERE number = ?", (number,))
        connection.execute("UPDATE place SET state = 0 WHERE run = ? AND state = 1", (number,))
        _stand(connection, lineup, its_priority)
        free(connection, _crowds_in(lineup))


# ---------------------------------------------------------------- room


def _has_room(connection: sqlite3.Connection, crowd: Crowd, at: float) -> bool:
    if crowd.state:  # it holds its place from an attempt before
        return True
    room = _room(connection, crowd, at)
    return room >= crowd.units or (room == crowd.most and crowd.kind == "rate")  # a limit may have been lowered below its units


def _room(connection: sqlite3.Connection, crowd: Crowd, at: float) -> int:
    if crowd.kind == "runs":
        return crowd.most - int(connection.execute(TAKEN, (crowd.number,)).fetchone()[0])
    reserved, _ = connection.execute(RESERVED, (crowd.number, at - RESERVE_SECONDS)).fetchone()
    return _unused(connection, crowd, at) - int(reserved)


def _unused(connection: sqlite3.Connection, crowd: Crowd, at: float) -> int:
    """Give the units of a rate that nobody has used, reserved or not."""
    _expire(connection, crowd, at)
    return crowd.most - int(connection.execute("SELECT used FROM crowd WHERE number = ?", (crowd.number,)).fetchone()[0])


def _expire(connection: sqlite3.Connection, crowd: Crowd, at: float) -> None:
    """Forget what was used before the window. What lies far in the future, since the clock was set back, was used now."""
    number, ahead = crowd.number, at + SKEW_SECONDS
    (late,) = connection.execute(
        "SELECT coalesce(sum(units), 0) FROM spend WHERE crowd = ? AND at > ?", (number, ahead)
    ).fetchone()
    if late:
        connection.execute("DELETE FROM spend WHERE crowd = ? AND at > ?", (number, ahead))
        _add_spend(connection, number, late, at)
    since = at - (crowd.seconds or 0.0) + ROUNDING
    (gone,) = connection.execute(
        "SELECT coalesce(sum(units), 0) FROM spend WHERE crowd = ? AND at <= ?", (number, since)
    ).fetchone()
    if gone:
        connection.execute("DELETE FROM spend WHERE crowd = ? AND at <= ?", (number, since))
        connection.execute("UPDATE crowd SET used = used - ? WHERE number = ?", (gone, number))


def _add_spend(connection: sqlite3.Connection, crowd: int, units: int, at: float) -> None:
    connection.execute(
        "INSERT INTO spend VALUES (?, ?, ?) ON CONFLICT (crowd, at) DO UPDATE SET units = units + excluded.units",
        (crowd, at, units),
    )


def _spend(connection: sqlite3.Connection, crowd: Crowd, at: float) -> None:
    _add_spend(connection, crowd.number, crowd.units, at)
    connection.execute("UPDATE crowd SET used = used + ? WHERE number = ?", (crowd.units, crowd.number))


def _look_again(connection: sqlite3.Connection, crowd: Crowd, at: float) -> None:
    """Note when so many units of a rate will be free as somebody waits for: used long enough ago, or reserved for nothing."""
    wanted = crowd.units - _room(connection, crowd, at)
    _, reserved_at = connection.execute(RESERVED, (crowd.number, at - RESERVE_SECONDS)).fetchone()
    if reserved_at is not None:
        _note_due(connection, crowd.number, reserved_at + RESERVE_SECONDS)
    for spent_at, units in connection.execute(USED_FROM, (crowd.number,)):
        wanted -= units
        if wanted <= 0:
            _note_due(connection, crowd.number, spent_at + (crowd.seconds or 0.0))
            return


def _note_due(connection: sqlite3.Connection, crowd: int, due_at: float) -> None:
    connection.execute("UPDATE crowd SET due_at = min(coalesce(due_at, ?), ?) WHERE number = ?", (due_at, due_at, crowd))


# ---------------------------------------------------------------- lineups


def free(connection: sqlite3.Connection, crowds: Sequence[int]) -> None:
    """Have crowds looked at by the next claim."""
    connection.executemany("INSERT OR IGNORE INTO freed VALUES (?)", [(crowd,) for crowd in crowds])


def fire_due(connection: sqlite3.Connection, *, at: float) -> None:
    """Have the rates looked at whose units are free again."""
    due = [row[0] for row in connection.execute(DUE, (at,))]
    connection.executemany("UPDATE crowd SET due_at = NULL WHERE number = ?", [(number,) for number in due])
    free(connection, due)


def settle(connection: sqlite3.Connection, *, at: float) -> int:
    """Let in whoever can be; give how many were."""
    count = 0
    for (number,) in connection.execute("SELECT crowd FROM freed").fetchall():
        connection.execute("DELETE FROM freed WHERE crowd = ?", (number,))
        kind, most, seconds = connection.execute("SELECT kind, most, seconds FROM crowd WHERE number = ?", (number,)).fetchone()
        count += _let_in_some(connection, Crowd(number, kind, most, seconds, 1), at)
    return count


def next_due(connection: sqlite3.Connection) -> float | None:
    """Give when units of a rate are free again that somebody waits for."""
    return connection.execute(NEXT_DUE).fetchone()[0]  # type: ignore[no-any-return]


def _let_in_some(connection: sqlite3.Connection, crowd: Crowd, at: float) -> int:
    count = 0
    place: tuple[int, int, str] = (-(2**31), -1, "")
    while rows := connection.execute(LINEUPS, (crowd.number, *place, BATCH)).fetchall():
        for row in rows:
            if not _has_room(connection, crowd, at):
                if crowd.kind == "rate":
                    _look_again(connection, crowd, at)
                return count
            count += let_in(connection, row[2], at=at)
        place = rows[-1]
    return count


def let_in(connection: sqlite3.Connection, lineup: str, *, at: float) -> bool:
    """Let in the first run of a lineup, if every crowd has room and nobody of it is let in already; give whether it did."""
    if connection.execute(HEAD, (lineup,)).fetchone():
        return False
    first = connection.execute(FIRST, (lineup,)).fetchone()
    if first is None:
        _close(connection, lineup)
        return False
    number = first[0]
    crowds = [Crowd(*row) for row in connection.execute(NEEDS, (number,))]
    short = [crowd for crowd in crowds if crowd.state is not None and not _has_room(connection, crowd, at)]
    for crowd in short:
        if crowd.kind == "rate":
            _look_again(connection, crowd, at)
    if short:
        return False
    turn = _turn(connection)
    connection.execute("UPDATE run SET gate = 1, ready_at = ?, turn = ? WHERE number = ?", (at, turn, number))
    connection.execute("UPDATE place SET state = 1 WHERE run = ? AND state = 0", (number,))
    journal(connection, number, at, "let in", {"ready_at": at, "turn": turn})
    following = connection.execute(FIRST, (lineup,)).fetchone()
    if following is None:
        _close(connection, lineup)
    else:
        for crowd_number in _crowds_in(lineup):
            connection.execute(
                "UPDATE lineup SET turn = ?, rank = ? WHERE crowd = ? AND lineup = ?",
                (_turn(connection), -following[1], crowd_number, lineup),
            )
    return True


def _stand(connection: sqlite3.Connection, lineup: str, priority: int) -> None:
    """Have a lineup looked at when there is room in one of its crowds."""
    for crowd in _crowds_in(lineup):
        connection.execute(
            "INSERT INTO lineup VALUES (?, ?, ?, ?) ON CONFLICT (crowd, lineup) DO UPDATE SET rank = min(rank, excluded.rank)",
            (crowd, lineup, -priority, _turn(connection)),
        )


def stand(connection: sqlite3.Connection, number: int) -> None:
    """Have a run, whose places were written, stand in its lineup; nothing, if it has none."""
    lineup, priority = connection.execute("SELECT lineup, priority FROM run WHERE number = ?", (number,)).fetchone()
    if lineup is not None:
        _stand(connection, lineup, priority)
        free(connection, _crowds_in(lineup))


def _close(connection: sqlite3.Connection, lineup: str) -> None:
    for crowd in _crowds_in(lineup):
        connection.execute("DELETE FROM lineup WHERE crowd = ? AND lineup = ?", (crowd, lineup))


def _turn(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM journal").fetchone()[0])


# ---------------------------------------------------------------- claiming


def pass_gate(connection: sqlite3.Connection, number: int, gate: int, status: str, *, at: float) -> bool:
    """Use what a claim uses of its rates; give whether it may go on, else it is back in its lineup."""
    rates = [crowd for crowd in (Crowd(*row) for row in connection.execute(NEEDS, (number,))) if crowd.kind == "rate"]
    if status != "QUEUED" or not rates:
        return True  # it goes on after an eviction or a crash, or has no rate
    if not all(_may_spend(connection, crowd, at, is_reserved=gate == 1) for crowd in rates):
        for crowd in rates:
            connection.execute("UPDATE place SET state = 0 WHERE run = ? AND crowd = ?", (number, crowd.number))
        lineup, priority = connection.execute("SELECT lineup, priority FROM run WHERE number = ?", (number,)).fetchone()
        connection.execute("UPDATE run SET gate = 0 WHERE number = ?", (number,))
        _stand(connection, lineup, priority)
        free(connection, [crowd.number for crowd in rates])
        return False
    for crowd in rates:
        _spend(connection, crowd, at)
        connection.execute("UPDATE place SET state = NULL WHERE run = ? AND crowd = ?", (number, crowd.number))
    free(connection, [crowd.number for crowd in rates])
    return True


def _may_spend(connection: sqlite3.Connection, crowd: Crowd, at: float, *, is_reserved: bool) -> bool:
    """Whether a run that is claimed may use its units: those that were reserved for it, unless they are used meanwhile."""
    room = _unused(connection, crowd, at) if is_reserved else _room(connection, crowd, at)
    return room >= crowd.units or room == crowd.most
