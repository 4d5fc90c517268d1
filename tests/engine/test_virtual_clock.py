"""The users' test clock."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

from durable_nb.engine.clock import Clock
from durable_nb.testing import VirtualClock


def test_stands_still_until_moved() -> None:
    clock: Clock = VirtualClock(datetime(2026, 5, 1, tzinfo=UTC))
    assert clock.now() == clock.now() == datetime(2026, 5, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("day", [timedelta(days=1), 86400, 86400.0])
def test_advance_takes_seconds_and_timedeltas(day: timedelta | float) -> None:
    clock = VirtualClock()
    before = clock.now()
    clock.advance(day)
    assert clock.now() == before + 86400


def test_every_waker_sees_the_new_time_at_each_move() -> None:
    clock = VirtualClock()
    start, seen = clock.now(), list[float]()
    clock.on_jump(lambda: seen.append(clock.now() - start))
    clock.on_jump(lambda: seen.append(clock.now() - start))
    clock.advance(5)
    clock.advance(1)
    assert seen == [5, 5, 6, 6]


def test_no_move_of_many_threads_is_lost() -> None:
    clock = VirtualClock()
    before = clock.now()
    threads = [threading.Thread(target=lambda: list(map(clock.advance, [1] * 500))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.now() == before + 4000


@pytest.mark.parametrize("backwards", [-1, timedelta(seconds=-1), float("nan")])
def test_time_does_not_go_backwards(backwards: timedelta | float) -> None:
    clock = VirtualClock()
    before = clock.now()
    with pytest.raises(ValueError, match="cannot be advanced"):
        clock.advance(backwards)
    assert clock.now() == before


def test_a_start_needs_a_time_zone() -> None:
    with pytest.raises(ValueError, match="time zone"):
        VirtualClock(datetime(2026, 1, 1))


def test_a_waker_whose_loop_is_closed_is_forgotten_and_holds_up_nobody() -> None:
    clock, seen, calls = VirtualClock(), list[float](), 0
    loop = asyncio.new_event_loop()
    loop.close()

    def stale() -> None:
        nonlocal calls
        calls += 1
        loop.call_soon_threadsafe(calls.bit_length)

    clock.on_jump(stale)
    clock.on_jump(lambda: seen.append(clock.now()))
    clock.advance(1)
    clock.advance(1)
    assert len(seen) == 2
    assert calls == 1
