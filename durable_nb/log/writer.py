"""The one writer of a process: group commit.

What is waiting when a commit ends goes into the next transaction, so that under load many checkpoints share one fsync and
alone each costs one.
Invariants: nobody is answered before their commit; answers follow commit order; each item stands in a savepoint of its own and
fails alone; after a failed COMMIT nothing is written any more until the log is opened again.

Lives on the engine's loop; the transactions run on the connection's thread.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from durable_nb.errors import EngineStoppedError, LogFailedError
from durable_nb.log.connection import Connection, explain

T = TypeVar("T")
logger = logging.getLogger(__name__)
BATCH = 512  # items a transaction: bounds how long other processes wait for the write lock

Work = Callable[[sqlite3.Connection], Any]


@dataclass(slots=True)
class Item:
    """One piece of work, who waits for it, and what follows in commit order."""

    work: Work
    done: asyncio.Future[Any]
    then: Callable[[Any], None] | None
    failure: BaseException | None = None
    result: Any = None


class Writer:
    """Group commit over one connection. Make and use it on one event loop.

    Args:
        on_failure: called once, on the loop, when a commit failed and the writer stopped.
        around: called on the connection's thread with each transaction, which it carries out.
    """

    def __init__(
        self,
        connection: Connection,
        path: Path,
        on_failure: Callable[[LogFailedError], None],
        around: Callable[[sqlite3.Connection, Callable[[], None]], None] = lambda connection, transact: transact(),
    ) -> None:
        self._connection = connection
        self._path = path
        self._on_failure = on_failure
        self._around = around
        self._waiting: list[Item] = []
        self._failed: LogFailedError | None = None
        self._is_closed = False
        self._is_writing = False
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._work(), name="durable_nb writer")

    def submit(self, work: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None) -> asyncio.Future[T]:
        """Queue one atomic piece of work; the future ends after its commit.

        Args:
            work: runs on the connection's thread inside the transaction; what it raises undoes only its own changes.
            then: runs on the loop right after the commit, before anything committed later is answered.
        """
        item = Item(work, asyncio.get_running_loop().create_future(), then)
        if self._failed or self._is_closed:
            item.done.set_exception(self._failed or EngineStoppedError("The log was closed before this was written to it."))
            item.done.exception()
        else:
            self._waiting.append(item)
            self._wake.set()
        return item.done

    async def close(self) -> None:
        """Write what is waiting, answer it, then stop; what is submitted from now on is refused."""
        self._is_closed = True
        self._wake.set()
        await asyncio.wait([self._task])

    async def _work(self) -> None:
        while not self._is_closed:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
                self._is_writing = True
                try:
                    await self._connection.run(self._work_on(batch))
                except Exception as error:  # an error that is not SQLite's fails the batch as well: nobody may wait for ever
                    if (
                        getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY"
                    ):  # another program holds the write lock: nothing is lost, so wait on
                        logger.warning("%s durable_nb waits for it.", explain(error, self._path))
                        self._waiting[:0] = batch
                    else:
                        self._fail(batch, error)
                else:
                    self._answer(batch)
            self._is_writing = False

    def _work_on(self, batch: list[Item]) -> Callable[[sqlite3.Connection], None]:
        return lambda connection: self._around(connection, lambda: transact(connection, batch))

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._waiting and not self._wake.is_set() and not self._is_writing

    def _answer(self, batch: list[Item]) -> None:
        for item in batch:
            if item.failure is None and item.then is not None:
                item.then(item.result)
            if item.done.cancelled():
                continue
            if item.failure is None:
                item.done.set_result(item.result)
            else:
                item.done.set_exception(item.failure)
                item.done.exception()  # whoever does not wait for it does not want the warning

    def _fail(self, batch: list[Item], error: Exception) -> None:
        self._failed = LogFailedError(
            f"A commit failed: {explain(error, self._path)} The engine stopped; what was not acknowledged is not in the log. "
            "Mend the cause (disk space, permissions), then load durable_nb again."
        )
        for item in [*batch, *self._waiting]:
            item.failure = self._failed
        self._answer([*batch, *self._waiting])
        self._waiting.clear()
        self._on_failure(self._failed)


def transact(connection: sqlite3.Connection, batch: list[Item]) -> None:
    """Run a batch as one transaction on the connection's thread; raise only if the transaction itself failed."""
    execute = connection.execute
    execute("BEGIN IMMEDIATE")
    try:
        for item in batch:
            execute("SAVEPOINT item")
            try:
                item.result = item.work(connection)
            except sqlite3.OperationalError:  # the disk, not the item: the transaction may be gone already
                raise
            except Exception as error:
                item.failure = error
                execute("ROLLBACK TO item")
            execute("RELEASE item")
        execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            execute("ROLLBACK")
        raise
