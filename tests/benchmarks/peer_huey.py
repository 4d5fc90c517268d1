"""The nearest work on huey with its SQLite storage and fsync on.

It is a queue: a step is a task of its own, and nothing is replayed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.benchmarks.measure import Measured, Meter, Setting, latencies

STEPS_OF_ONE = 20
WORKERS = 4
POLL_SECONDS = 0.001
PATIENCE_SECONDS = 300.0


def sequential(setting: Setting) -> Measured:
    """1,000 tasks, each queued when the last one's result is there."""
    return _one_by_one(setting)


def empty(setting: Setting) -> Measured:
    """The same; what is looked at is how long each takes."""
    return _one_by_one(setting)


def _one_by_one(setting: Setting) -> Measured:
    number, seconds = setting.count(1000, least=5), []
    with consumed(setting) as next_of, Meter(setting.folder) as meter:
        for index in range(number):
            began = time.perf_counter()
            assert _result(next_of(index)) == index + 1
            seconds.append(time.perf_counter() - began)
    return Measured(number, meter.figures(number) | latencies(seconds))


def concurrent(setting: Setting) -> Measured:
    """As many tasks as 100 runs × 20 memos have, all queued at once."""
    return _all_at_once(setting, setting.count(100, least=2) * STEPS_OF_ONE)


def few_children(setting: Setting) -> Measured:
    """200 tasks and their results."""
    return _all_at_once(setting, setting.count(200, least=5))


def _all_at_once(setting: Setting, number: int) -> Measured:
    with consumed(setting) as next_of, Meter(setting.folder) as meter:
        results = [next_of(index) for index in range(number)]
        assert sum(_result(result) for result in results) == number * (number + 1) // 2
    return Measured(number, meter.figures(number))


def _result(result: Any) -> int:
    return int(result.get(blocking=True, timeout=PATIENCE_SECONDS, backoff=1.0, max_delay=POLL_SECONDS))


@contextmanager
def consumed(setting: Setting) -> Iterator[Any]:
    """Start a consumer with threads in this process; give the task."""
    from huey import SqliteHuey
    from huey.consumer import Consumer

    huey = SqliteHuey(filename=str(setting.folder / "huey.db"), fsync=True)

    def one_more(number: int) -> int:
        return number + 1

    next_of = huey.task()(one_more)

    consumer = Consumer(
        huey, workers=WORKERS, periodic=False, initial_delay=POLL_SECONDS, max_delay=POLL_SECONDS, check_worker_health=False
    )
    consumer.start()
    try:
        assert _result(next_of(0)) == 1
        yield next_of
    finally:
        consumer.stop(graceful=True)
