"""What a run streams and what it says, as its listeners hold it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING

from durable_nb.engine.current import CURRENT
from durable_nb.errors import DurableError
from durable_nb.log import lines

if TYPE_CHECKING:
    import sqlite3

    from durable_nb.client.app import Durable

AIO = "async for chunk in ref.stream()"
AIO_LINES = "async for line in durable.runs.follow_logs(…)"
PAGE = 1000  # lines that a listener is given at once
LOOK_SECONDS = 0.1


class RunStream:
    """The chunks that a run streams with `ctx.put_stream`, in order, from its first to its end; text or bytes, as they were put.

    Each iteration begins anew with the first chunk, also long after the run has ended, and in any process that has the log open.

    Raises:
        UnknownRunError: when iterated, if there is no such run.
        DurableError: when iterated in a durable task, whose replay would hear something else.

    Example:
        >>> async for chunk in ref.stream():  # doctest: +SKIP
        ...     print(chunk, end="")
        >>> text = "".join(ref.stream())  # doctest: +SKIP
    """

    def __init__(self, host: Durable, find: Callable[[], Awaitable[int]]) -> None:
        self._host = host
        self._find = find

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        number, seq, is_over = await self._place(), 0, False
        while not is_over:
            chunks, seq, is_over = await self._next(number, seq)
            for chunk in chunks:
                yield chunk

    def __iter__(self) -> Iterator[str | bytes]:
        number, seq, is_over = self._host.call(self._place, aio=AIO), 0, False
        while not is_over:
            request = functools.partial(self._next, number, seq)
            chunks, seq, is_over = self._host.call(request, aio=AIO)
            yield from chunks

    async def _place(self) -> int:
        _refuse_in_replay("A stream was listened to")
        return await self._find()

    async def _next(self, number: int, seq: int) -> tuple[list[str | bytes], int, bool]:
        engine = self._host.engine

        async def wait() -> tuple[list[str | bytes], int, bool]:
            from durable_nb.engine.regular import RegularRun

            current = CURRENT.get()  # it may have to give its slot to the run that it listens to
            async with current.slot_lent() if isinstance(current, RegularRun) else contextlib.nullcontext():
                return await engine.streams.next_chunks(number, seq)

        return await self._host.aio_call(wait)  # type: ignore[no-any-return]


def _refuse_in_replay(what: str) -> None:
    current = CURRENT.get()
    if current is not None and current.task.kind == "durable_task":
        raise DurableError(
            f"{what} inside a durable task, where no replay could hear it again: "
            "listen in a regular task, or return the text as an output."
        )


class RunLines:
    """The lines of a run's log, from its first to the run's end, as they come: what `durable.runs.follow_logs` gives.

    Each iteration begins anew with the first line, also long after the run has ended, and in any process that has the log open.

    Raises:
        UnknownRunError: when iterated, if there is no such run.
        DurableError: when iterated in a durable task, whose replay would hear something else.

    Example:
        >>> for line in durable.runs.follow_logs("first"):  # doctest: +SKIP
        ...     print(line.level, line.text)
    """

    def __init__(self, host: Durable, find: Callable[[], Awaitable[int]]) -> None:
        self._host = host
        self._find = find

    async def __aiter__(self) -> AsyncIterator[lines.Line]:
        number, after, is_over = await self._place(), 0, False
        while not is_over:
            said, is_over = await self._next(number, after)
            for after, line in said:  # noqa: B007  the last number is where the next look begins
                yield line

    def __iter__(self) -> Iterator[lines.Line]:
        number, after, is_over = self._host.call(self._place, aio=AIO_LINES), 0, False
        while not is_over:
            said, is_over = self._host.call(functools.partial(self._next, number, after), aio=AIO_LINES)
            for after, line in said:  # noqa: B007
                yield line

    async def _place(self) -> int:
        _refuse_in_replay("A run's log was followed")
        return await self._find()

    async def _next(self, number: int, after: int) -> tuple[list[tuple[int, lines.Line]], bool]:
        """Give further lines, and whether none will follow; after a short wait, where there are none yet."""

        def read(connection: sqlite3.Connection) -> tuple[list[tuple[int, lines.Line]], bool]:
            return lines.list_further(connection, number, after, limit=PAGE)

        engine = self._host.engine
        said, is_over = await self._host.aio_call(lambda: engine.reader.run(read))
        if not said and not is_over:
            await asyncio.sleep(LOOK_SECONDS)
        return said, is_over
