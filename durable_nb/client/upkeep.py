"""`durable.upkeep`: keeping a log small, sound and safe."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic.errors import PydanticInvalidForJsonSchema

from durable_nb.client.forms import Group, sync_form
from durable_nb.errors import ArgumentError, LogError
from durable_nb.tasks.options import parse_duration

if TYPE_CHECKING:
    from durable_nb.client.app import Durable
    from durable_nb.engine.engine import Engine
    from durable_nb.engine.sweeping import Removed
    from durable_nb.log.doctor import Report
    from durable_nb.log.redacting import Redaction

T = TypeVar("T")


class Upkeep(Group):
    """`durable.upkeep`: `gc`, `doctor`, `backup`, `export_jsonl`.

    All of them may be used while runs go on, here and in other processes.
    """

    async def aio_gc(
        self,
        older_than: timedelta | str | float = "30d",
        *,
        status: str | Sequence[str] = ("COMPLETED", "FAILED", "CANCELLED"),
        include_named: bool = False,
        dry_run: bool = False,
    ) -> Removed:
        """Remove runs that ended long ago, with all that they said, and events that nobody can take any more.

        Only whole trees go: a run with everything below it, if all of it ended more than `older_than` ago. What another run
        refers to (a fork of it, a run that awaits its result) stays as long as that one does; so do runs whose idempotency key
        still counts, and those that a person has named by a key, unless `include_named`. It works in many small transactions.
        The file keeps its size: its free pages are used again.

        Args:
            older_than: since the end; a timedelta, seconds, or text such as ``"30d"``.
            status: of the run without a parent: one or several.
            dry_run: change nothing, and say what would go.

        Raises:
            ArgumentError: a status that no ended run has, or a duration that there is not.

        Example:
            >>> durable.upkeep.gc("90d", status="COMPLETED", dry_run=True)  # doctest: +SKIP
            Removed(trees=120, runs=4310, events=87, bodies=None, is_dry_run=True)
        """
        from durable_nb.engine import sweeping
        from durable_nb.log.records import ENDED
        from durable_nb.log.trees import Old

        statuses = (status,) if isinstance(status, str) else tuple(status)
        if unknown := [name for name in statuses if name not in ENDED]:
            raise ArgumentError(f"status={unknown[0]!r}: gc removes runs that have ended: COMPLETED, FAILED or CANCELLED.")
        seconds = parse_duration(older_than, of="older_than").total_seconds()
        engine = self._host.engine
        old = Old(before=engine.clock.now() - seconds, statuses=statuses, named=include_named)
        return await self._on_loop(lambda: sweeping.look(engine, old) if dry_run else sweeping.remove(engine, old))

    gc = sync_form(aio_gc)

    async def aio_doctor(self, *, thorough: bool = True) -> Report:
        """Say what is damaged, stuck or slow in the log, and what helps.

        Args:
            thorough: read the whole file: every page, and whether the state of every run follows from its journal.

        Returns:
            A report with `.findings` (the worst first; each with `.kind`, `.text` and `.run_id`), `.facts` (sizes and counts) and
            `.is_healthy`.
        """
        from durable_nb.engine.liveness import is_alive
        from durable_nb.log.connection import open_sqlite
        from durable_nb.log.doctor import examine

        engine, path = self._host.engine, self._host.path

        def read(connection: sqlite3.Connection) -> Report:
            return examine(
                connection,
                path,
                at=engine.clock.now(),
                is_alive=lambda worker: worker == engine.worker or is_alive(path, worker),
                is_thorough=thorough,
            )

        def work() -> Report:  # on a connection of its own, since it reads for long
            with closing(open_sqlite(path, query_only=True)) as connection:
                return read(connection)

        return await self._in_thread(engine, work)

    doctor = sync_form(aio_doctor)

    async def aio_backup(self, path: str | os.PathLike[str]) -> Path:
        """Copy the log into a file, consistently, while runs go on; give its path.

        The copy is a log like this one: trusted as this one is, and opened by ``Durable(path)``. It takes with it what was
        committed when it ends.

        Raises:
            LogError: there is such a file, or it cannot be written.
        """
        from durable_nb.log.copying import backup

        engine, source, target = self._host.engine, self._host.path, absolute(path)
        return await self._in_thread(engine, lambda: backup(source, target))

    backup = sync_form(aio_backup)

    async def aio_export_jsonl(self, path: str | os.PathLike[str]) -> Path:
        """Write the whole log as JSON lines, as it is at one instant, without the fields that `redact` names; give the path.

        Each line is one row, as ``{"table": "run", "row": {…}}``; `durable_nb.import_jsonl` makes a log of it again. Log lines,
        error messages and streamed chunks have no fields, so they stay as they are.

        Raises:
            LogError: there is such a file, or it cannot be written.
        """
        from durable_nb.log.jsonl import write_jsonl

        host, target = self._host, absolute(path)
        redaction = redaction_of(host)
        return await self._in_thread(host.engine, lambda: write_jsonl(host.path, target, redaction=redaction))

    export_jsonl = sync_form(aio_export_jsonl)

    async def _in_thread(self, engine: Engine, work: Callable[[], T]) -> T:
        async def wait() -> T:
            return await asyncio.wrap_future(engine.threads.submit(work))

        return await self._on_loop(wait)


def import_jsonl(path: str | os.PathLike[str], log: str | os.PathLike[str]) -> Path:
    """Make a log of what `durable.upkeep.export_jsonl` wrote; give its path. It is inert until it is trusted.

    Raises:
        LogError: there is such a log already, or the file is cut, changed, or no export; nothing was made.

    Example:
        >>> import_jsonl("export.jsonl", "again.db")  # doctest: +SKIP
    """
    from durable_nb.log.jsonl import read_jsonl

    return read_jsonl(absolute(path), absolute(log))


def doctor(path: str | os.PathLike[str], *, thorough: bool = True) -> Report:
    """Examine a log without an engine, trusted or not: see `durable.upkeep.doctor`. Blocking; nothing is written or executed.

    Raises:
        LogError: there is no such log, or it cannot be read.
    """
    from durable_nb.engine.liveness import is_alive
    from durable_nb.log.connection import explain, open_sqlite
    from durable_nb.log.doctor import examine

    log = absolute(path)
    if not log.is_file():
        raise LogError(f"There is no log {log}.")
    try:
        with closing(open_sqlite(log, query_only=True)) as connection:
            return examine(connection, log, at=time.time(), is_alive=lambda worker: is_alive(log, worker), is_thorough=thorough)
    except sqlite3.Error as error:
        raise explain(error, log) from error


def absolute(path: str | os.PathLike[str]) -> Path:
    """Give a path that a person wrote, from the root on."""
    return Path(path).expanduser().absolute()


def redaction_of(host: Durable) -> Redaction:
    """Give what bundles and exports of an app object leave out: what it names, and what the types of its tasks mark."""
    from durable_nb.log.redacting import Redaction, marked_fields

    marked = set[str]()
    for task in host.tasks:
        for adapter in (task.input_adapter, task.output_adapter):
            with suppress(PydanticInvalidForJsonSchema):  # a type of artifacts
                marked |= marked_fields(adapter.json_schema())
    return Redaction([*host.redaction.patterns, *sorted(marked)])
