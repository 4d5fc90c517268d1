"""The same work on DBOS with its SQLite system database, as its documentation has it: synchronous workflows and steps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.benchmarks.measure import Measured, Meter, Setting, latencies

STEPS_OF_ONE = 20


def sequential(setting: Setting) -> Measured:
    """1 workflow × 1,000 steps."""
    number = setting.count(1000, least=5)
    with launched(setting) as workflows, Meter(setting.folder) as meter:
        assert workflows["count"](number) == number
    return Measured(number, meter.figures(number))


def concurrent(setting: Setting) -> Measured:
    """100 workflows × 20 steps, all at once."""
    runs = setting.count(100, least=2)
    with launched(setting) as workflows, Meter(setting.folder) as meter:
        handles = [workflows["start"](workflows["count"], STEPS_OF_ONE) for _ in range(runs)]
        assert [handle.get_result() for handle in handles] == [STEPS_OF_ONE] * runs
    return Measured(runs * STEPS_OF_ONE, meter.figures(runs * STEPS_OF_ONE))


def few_children(setting: Setting) -> Measured:
    """1 workflow × 200 child workflows and their results."""
    number = setting.count(200, least=5)
    with launched(setting) as workflows, Meter(setting.folder) as meter:
        assert workflows["parent"](number) == number * (number - 1)
    return Measured(number, meter.figures(number))


def empty(setting: Setting) -> Measured:
    """Empty workflows, one after another."""
    number, seconds = setting.count(1000, least=5), []
    with launched(setting) as workflows, Meter(setting.folder) as meter:
        for index in range(number):
            began = time.perf_counter()
            assert workflows["double"](index) == 2 * index
            seconds.append(time.perf_counter() - began)
    return Measured(number, meter.figures(number) | latencies(seconds))


@contextmanager
def launched(setting: Setting) -> Iterator[dict[str, Any]]:
    """Launch DBOS on a new database; give its workflows by name, and what starts one."""
    from dbos import DBOS

    DBOS(config={"name": "benchmark", "system_database_url": f"sqlite:///{setting.folder / 'dbos.db'}", "log_level": "ERROR"})

    def one_more(number: int) -> int:
        return number + 1

    next_of = DBOS.step()(one_more)

    def count(number: int) -> int:
        reached = 0
        for _ in range(number):
            reached = next_of(reached)
        return reached

    def double(number: int) -> int:
        return 2 * number

    def parent(number: int) -> int:
        handles = [DBOS.start_workflow(workflows["double"], index) for index in range(number)]
        return sum(handle.get_result() for handle in handles)

    workflows = {function.__name__: DBOS.workflow()(function) for function in (count, double, parent)}
    DBOS.launch()
    try:
        workflows["count"](2)
        workflows["parent"](2)
        yield {**workflows, "start": DBOS.start_workflow}
    finally:
        DBOS.destroy()
