"""What running tasks say, on its way into the log and from there to those who listen.

Invariants: whatever is said while one commit is under way goes into the next together, so that a chunk costs no commit of its
own; it is kept here until its commit; what was said before a run's end is submitted before that end.

`say` may be called from any thread; the rest lives on the engine's loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

from durable_nb.log import streams
from durable_nb.log.streams import Said

if TYPE_CHECKING:
    import sqlite3

    from durable_nb.engine.engine import Engine

BATCH = 500  # chunks that a listener is given at once
LISTEN_SECONDS = 2.0  # how long one request of a listener waits at most: a listener that left is forgotten by then


class Streams:
    """The lines, chunks and progress of all the runs of an engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._said: list[Said] = []
        self._is_posted = False  # `_submit` was asked for from another thread
        self._is_submitted = False  # what is said now goes into a transaction that is still to be executed
        self._spoken = asyncio.Event()  # replaced each time that it is set

    # ------------------------------------------------------------ saying

    def say(self, said: Said) -> None:
        """Have something written, soon and in order."""
        is_here = self._engine.thread.is_here
        with self._lock:
            self._said.append(said)
            is_taken = self._is_posted or self._is_submitted  # it goes along with what was said before
            self._is_posted = self._is_posted or not (is_here or is_taken)
        if is_here:
            self._submit()  # at once: an eviction may be the next thing that is submitted, and what comes after it is not heard
        elif not is_taken:
            self._engine.post(self._submit)

    def _submit(self) -> None:
        with self._lock:
            self._is_posted = False
            if self._is_submitted:
                return
            self._is_submitted = True
        taken: list[Said] = []

        def write(connection: sqlite3.Connection) -> None:  # on the connection's thread, a second time where the log was busy
            with self._lock:
                taken.extend(self._said)
                self._said = []
                self._is_submitted = False
            streams.write_said(connection, taken)

        self._engine.writer.submit(write, lambda _: self.wake())

    # ------------------------------------------------------------ listening

    def wake(self) -> None:
        """Have listeners look into the log: something was said, or a run has ended."""
        spoken, self._spoken = self._spoken, asyncio.Event()
        spoken.set()

    async def next_chunks(self, run: int, seq: int) -> tuple[list[str | bytes], int, bool]:
        """Wait a while for a run's chunks after number `seq`; give them, the last number, and whether none will follow."""
        deadline = self._engine.loop.time() + LISTEN_SECONDS
        while True:
            spoken = self._spoken
            rows, is_over = await self._engine.reader.run(lambda connection: streams.chunks_after(connection, run, seq, BATCH))
            left = deadline - self._engine.loop.time()
            if rows or is_over or left <= 0:
                return [data for _, data in rows], rows[-1][0] if rows else seq, is_over
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(spoken.wait(), left)
