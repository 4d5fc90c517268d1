"""The one writer of a process: group commit.

What is waiting when a commit ends goes into the next transaction, so that under load many checkpoints share one fsync and
alone each costs one.
Invariants: nobody is answered before their commit; answers follow commit order; each item stands in a savepoint of its own and
fails alone; after a failed COMMIT nothing is written any more until the log is opened again.

Lives on the engine's loop; the transactions run on the connection's thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from durable_nb.errors import EngineStoppedError, LogFailedError
from durable_nb.log.connection import Connection, explain, grow_wal

T = TypeVar("T")
logger = logging.getLogger(__name__)
COMMITS_BEFORE_GROWING = 8  # fewer are not worth a longer WAL
BATCH = 512  # items a transaction: bounds how long other processes wait for the write lock

Work = Callable[[sqlite3.Connection], Any]


@dataclass(slots=True)
class Item:
    """One piece of work, who waits for it, and what follows in commit order."""

    work: Work
    then: Callable[[Any], None] | None
    ended: Callable[[BaseException | None, Any], None]
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
        self._loop = asyncio.get_running_loop()
        self._outside = contextvars.Context()  # its callbacks are moves of no run
        self._waiting: list[Item] = []
        self._failed: LogFailedError | None = None
        self._is_closed = False
        self._is_writing = False  # or about to
        self._written = self._loop.create_future()  # once it is closed
        self._commits = 0

    def submit(self, work: Callable[[sqlite3.Connection], T], then: Callable[[T], None] | None = None) -> asyncio.Future[T]:
        """Queue one atomic piece of work; the future ends after its commit.

        Args:
            work: runs on the connection's thread inside the transaction; what it raises undoes only its own changes.
            then: runs on the loop right after the commit, before anything committed later is answered.
        """
        done = self._loop.create_future()
        self.post(work, then, partial(_tell, done))
        return done

    def post(
        self,
        work: Callable[[sqlite3.Connection], T],
        then: Callable[[T], None] | None,
        ended: Callable[[BaseException | None, Any], None],
    ) -> None:
        """As `submit`, without a future: `ended` is called on the loop with what went wrong, or None, and what `work` gave."""
        item = Item(work, then, ended)
        if self._failed or self._is_closed:
            item.failure = self._failed or EngineStoppedError("The log was closed before this was written to it.")
            self._loop.call_soon(self._answer, [item], context=self._outside)
            return
        self._waiting.append(item)
        self._write_soon()

    async def close(self) -> None:
        """Write what is waiting, answer it, then stop; what is submitted from now on is refused."""
        self._is_closed = True
        if self._is_writing:
            await self._written

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits to be written."""
        return not self._is_writing

    def _write_soon(self) -> None:
        """Begin a transaction after this turn of the loop, in which others may have something for it."""
        if not self._is_writing:
            self._is_writing = True
            self._loop.call_soon(self._write, context=self._outside)

    def _write(self) -> None:
        batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
        self._connection.post(partial(self._carry_out, batch))

    def _carry_out(self, batch: list[Item], connection: sqlite3.Connection) -> None:
        """Write a batch. Called on the connection's thread."""
        error: BaseException | None = None
        try:
            self._around(connection, partial(transact, connection, batch))
        except BaseException as raised:  # an error that is not SQLite's fails the batch as well: nobody may wait for ever
            error = raised
        self._loop.call_soon_threadsafe(self._come_back, batch, error, context=self._outside)

    def _come_back(self, batch: list[Item], error: BaseException | None) -> None:
        """Answer a batch, and go on with what has come meanwhile."""
        if error is None:
            self._answer(batch)
            self._commits += 1
            if self._commits == COMMITS_BEFORE_GROWING:
                self._connection.post(partial(grow_wal, path=self._path))
        elif (
            getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY"
        ):  # another program has the write lock: nothing is lost, so wait on
            logger.warning("%s durable_nb waits for it.", explain(error, self._path))
            self._waiting[:0] = batch
        else:
            self._fail(batch, error)
        self._is_writing = False
        if self._waiting:
            self._write_soon()
        elif self._is_closed and not self._written.done():
            self._written.set_result(None)

    def _answer(self, batch: list[Item]) -> None:
        for item in batch:
            try:
                if item.failure is None and item.then is not None:
                    item.then(item.result)
                item.ended(item.failure, item.result)
            except Exception as error:  # whoever is told must not keep the others from being told
                self._loop.call_exception_handler({"message": "What follows a commit failed.", "exception": error})

    def _fail(self, batch: list[Item], error: BaseException) -> None:
        self._failed = LogFailedError(
            f"A commit failed: {explain(error, self._path)} The engine stopped; what was not acknowledged is not in the log. "
            "Mend the cause (disk space, permissions), then load durable_nb again."
        )
        batch, self._waiting = [*batch, *self._waiting], []
        for item in batch:
            item.failure = self._failed
        self._answer(batch)
        self._on_failure(self._failed)


def _tell(done: asyncio.Future[Any], failure: BaseException | None, result: Any) -> None:
    """End the future of whoever awaits an item."""
    if done.cancelled():
        return
    if failure is None:
        done.set_result(result)
    else:
        done.set_exception(failure)
        done.exception()  # whoever does not wait for it does not want the warning


def transact(connection: sqlite3.Connection, batch: list[Item]) -> None:
    """Run a batch as one transaction on the connection's thread; raise only if the transaction itself failed."""
    execute = connection.execute
    is_alone = len(batch) == 1  # then the transaction is its savepoint
    execute("BEGIN IMMEDIATE")
    try:
        for item in batch:
            if not is_alone:
                execute("SAVEPOINT item")
            try:
                item.result = item.work(connection)
            except sqlite3.OperationalError:  # the disk, not the item: the transaction may be gone already
                raise
            except Exception as error:
                item.failure = error
                if not is_alone:
                    execute("ROLLBACK TO item")
            if not is_alone:
                execute("RELEASE item")
        execute("ROLLBACK" if is_alone and batch[0].failure is not None else "COMMIT")
    except BaseException:
        if connection.in_transaction:
            execute("ROLLBACK")
        raise
