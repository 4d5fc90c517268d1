"""The ticks of a cron expression, in UTC seconds. Pure.

Invariant: ticks follow the wall clock of the expression's time zone as Debian's cron does at a change of summer time
(`cronsim`), and every tick that is given lies strictly after the time it was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim

LATE_SECONDS = 60.0  # a tick that is later than this was missed
BACK_SECONDS = 3 * 3600.0  # more than any change of summer time
MANY = 1000  # ticks that are caught up in one transaction


def ticks_after(expression: str, timezone: str, at: float) -> Iterator[float]:
    """Give the ticks after a time, in order."""
    start = datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(timezone))
    last = at
    for moment in CronSim(expression, start):
        tick = moment.timestamp()
        if tick > last:  # in the hour that comes twice, one before `start` may come first
            last = tick
            yield tick


def next_tick(expression: str, timezone: str, at: float) -> float | None:
    """Give the first tick after a time; None where there is none in 50 years.

    >>> next_tick("0 9 * * *", "UTC", 0.0)
    32400.0
    """
    return next(ticks_after(expression, timezone, at), None)


def last_tick(expression: str, timezone: str, since: float, now: float) -> float | None:
    """Give the last tick that is not before `since` and not after `now`, however many lie between."""
    start = since - 1e-3
    if now - since > BACK_SECONDS:
        backward = CronSim(expression, datetime.fromtimestamp(now, UTC).astimezone(ZoneInfo(timezone)), reverse=True)
        near = next(backward, None)
        if near is not None:
            start = max(start, near.timestamp() - BACK_SECONDS)
    found = None
    for tick in ticks_after(expression, timezone, start):
        if tick > now:
            break
        found = tick
    return found


def due_ticks(expression: str, timezone: str, catch_up: str, due_at: float, now: float) -> tuple[list[float], float | None]:
    """Give which ticks from `due_at` to `now` are to run, and which is next.

    >>> due_ticks("0 * * * *", "UTC", "all", 3600.0, 7200.0)
    ([3600.0, 7200.0], 10800.0)
    >>> due_ticks("0 * * * *", "UTC", "skip", 3600.0, 7300.0)
    ([], 10800.0)
    """
    if catch_up == "all":
        found = [due_at, *islice(ticks_after(expression, timezone, due_at), MANY - 1)]
        ticks = [tick for tick in found if tick <= now]
        return ticks, next_tick(expression, timezone, ticks[-1])
    last = last_tick(expression, timezone, due_at, now)
    is_missed = last is None or (catch_up == "skip" and now - last > LATE_SECONDS)
    return [] if is_missed or last is None else [last], next_tick(expression, timezone, now)
