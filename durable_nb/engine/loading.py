"""Loading what the log has for durable runs that are entered: those of one claim together, in one hop to the reader's thread.

Invariant: what is loaded is one state of the log. Whoever enters a run must ask for what came later, if the watch has seen
another process write meanwhile.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from durable_nb.log import branches, checkpoints
from durable_nb.log.records import Claim, Completion, Recorded

if TYPE_CHECKING:
    from durable_nb.engine.engine import Engine

BATCH = 50  # runs a hop


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the log has for a run.

    Attributes:
        history: what is recorded for the claim's branch.
        seeds: what its chance is drawn from.
        since: the last sequence number that belongs to earlier histories of the run.
        others: what has a place in the run's order and none in its history: cancels, outcomes of branches that were left.
    """

    history: Sequence[Recorded] = ()
    seeds: Sequence[tuple[int, str]] = ()
    since: int = 0
    others: Sequence[Completion] = field(default=())


class Loader:
    """Loads histories. Lives on the engine's loop."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._waiting: list[tuple[Claim, asyncio.Future[Loaded]]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def load(self, claim: Claim) -> Loaded:
        """Give what the log has for a claimed run."""
        if not claim.has_history:
            return Loaded(seeds=[(1, f"{claim.id}/{claim.branch}")])
        future: asyncio.Future[Loaded] = asyncio.get_running_loop().create_future()
        self._waiting.append((claim, future))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._begin)  # in this turn others may ask
        return await future

    def _begin(self) -> None:
        waiting, self._waiting = self._waiting, []
        for at in range(0, len(waiting), BATCH):
            task = asyncio.get_running_loop().create_task(self._read(waiting[at : at + BATCH]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _read(self, batch: Sequence[tuple[Claim, asyncio.Future[Loaded]]]) -> None:
        try:
            answers = await self._engine.reader.run(partial(_load_all, [claim for claim, _ in batch]))
        except Exception as error:  # the log was closed, or cannot be read: each is told
            answers = [error] * len(batch)
        for (_, future), answer in zip(batch, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Loaded):
                future.set_result(answer)
            else:
                future.set_exception(answer)


def _load_all(claims: Sequence[Claim], connection: sqlite3.Connection) -> list[Loaded | Exception]:
    return [_load(connection, claim) for claim in claims]


def _load(connection: sqlite3.Connection, claim: Claim) -> Loaded | Exception:
    number, branch = claim.number, claim.branch
    try:
        history = checkpoints.load_history(connection, number, branch)
        since = checkpoints.seq_before(connection, number, branch)
        in_history = sum(recorded.seq is not None and recorded.seq > since for recorded in history)
        is_whole = in_history == checkpoints.last_seq(connection, number) - since  # the numbers have no gaps
        others = [] if is_whole else checkpoints.arrived_since(connection, number, since)
        return Loaded(history, branches.seeds_of(connection, number, branch), since, others)
    except Exception as error:  # a damaged run stops no other
        return error
