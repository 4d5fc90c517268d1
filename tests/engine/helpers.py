"""What the engine's tests share: a log with its clock and the engines on it, conditions for sleeps, a look into the log."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from durable_nb import Durable, RunRef
from durable_nb.log.connection import open_sqlite
from durable_nb.log.rebuild import differences
from durable_nb.log.records import RunView
from durable_nb.testing import VirtualClock

T = TypeVar("T")
PATIENCE = 10.0  # seconds after which a condition counts as never coming true


def wait_until(predicate: Callable[[], T], timeout: float = PATIENCE, *, what: str = "the condition") -> T:
    """Give the predicate's first true value."""
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        assert time.monotonic() < deadline, f"{what} did not come true in {timeout} s"
        time.sleep(0.003)
    return value


async def opened(gate: threading.Event) -> None:
    """Await a thread's event from a coroutine, as work that is no durable wait."""
    while not gate.is_set():  # noqa: ASYNC110  a threading.Event cannot wake a coroutine
        await asyncio.sleep(0.003)


class Bench:
    """One log and one virtual clock, and any number of engines on them."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.db"
        self.clock = VirtualClock()
        self._folder = folder
        self._opened: list[Durable] = []
        self._snapshots = 0
        self.is_tampered = False  # the test itself has written to the log

    def durable(self, **options: Any) -> Durable:
        """Give a new engine on the log; it opens at its first use."""
        durable = Durable(self.path, **{"clock": self.clock, **options})
        self._opened.append(durable)
        return durable

    def close(self) -> None:
        """Close every engine."""
        for durable in self._opened:
            durable.close()

    def check_state(self) -> None:
        """Compare the current-state rows with what follows from the log's facts."""
        if self.path.exists() and not self.is_tampered:
            with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
                assert differences(connection) == []

    def crash(self) -> None:
        """Go on with a copy of the log as it is at this instant: what a killed process leaves behind."""
        self._snapshots += 1
        folder = self._folder / f"snapshot{self._snapshots}"
        folder.mkdir()
        with closing(sqlite3.connect(self.path)) as source, closing(sqlite3.connect(folder / "log.db")) as copy:
            source.backup(copy)
        self.path = folder / "log.db"
        self.check_state()

    def forget(self) -> None:
        """Close every engine and remove the copies."""
        self.close()
        for folder in self._folder.glob("snapshot*"):
            shutil.rmtree(folder)

    # ------------------------------------------------------------ a look into the log

    def rows(self, sql: str, *arguments: object) -> list[Any]:
        """Give the rows of a query; none of a log that was never written."""
        if not self.path.exists():
            return []
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(sql, arguments).fetchall()

    def count(self, table: str) -> int:
        """Give how many rows a table has."""
        rows = self.rows(f"SELECT count(*) FROM {table}")
        return int(rows[0][0]) if rows else 0

    def asks(self, ref: RunRef[Any]) -> list[tuple[int, int, str]]:
        """Give what a run asked, as (branch, node, words)."""
        return self.rows(
            "SELECT branch, node, ask FROM v_checkpoints WHERE run_id = ? ORDER BY branch, node", ref.workflow_run_id
        )

    def open_waits(self, ref: RunRef[Any]) -> list[str]:
        """Give the names of the conditions that a run waits for."""
        rows = self.rows("SELECT name FROM v_waits WHERE run_id = ? ORDER BY node, name", ref.workflow_run_id)
        return [name for (name,) in rows]

    def asked(self, ref: RunRef[Any], number: int) -> None:
        """Wait until a run has asked `number` checkpoints."""
        wait_until(lambda: len(self.asks(ref)) >= number, what=f"the ask of {number} checkpoints")
        assert len(self.asks(ref)) == number


def view(durable: Durable, ref: RunRef[Any]) -> RunView:
    """Give a run's state."""
    return durable.runs.get(ref.workflow_run_id)


def reach(durable: Durable, ref: RunRef[Any], predicate: Callable[[RunView], Any], what: str = "the state") -> RunView:
    """Wait until a run's state fits; give it."""

    def state() -> RunView | None:
        seen = view(durable, ref)
        return seen if predicate(seen) else None

    found = wait_until(state, what=what)
    assert found is not None
    return found


def settle(durable: Durable) -> None:
    """Wait until the engine has seen the last move of the clock: a run that is started now has come to its end."""
    if "settle" not in durable.tasks:

        @durable.task(name="settle")
        async def settled(input: Any, ctx: Any) -> None:
            return None

    for _ in range(2):
        durable.tasks["settle"].run()


@contextmanager
def closing_log(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection to a log as the engine opens it."""
    with closing(open_sqlite(path)) as connection:
        yield connection
