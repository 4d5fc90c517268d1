"""Matching events with waits: in order of acceptance, in bounded batches, filters evaluated off the write lock.

Whoever pushes an event matches it; another worker takes over events that stay unmatched for a while, since their pusher may
be dead. Two that match the same event do no harm: what is recorded is recorded once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from durable_nb.engine.cel import compile_filter
from durable_nb.errors import ExpressionError, ExpressionEvaluationError
from durable_nb.log import lookback, waits
from durable_nb.log.records import AcceptedEvent, Completion, EventReport
from durable_nb.tasks.payload import decode
from durable_nb.tasks.schemas import misfit

if TYPE_CHECKING:
    import sqlite3

    from durable_nb.engine.engine import Engine
    from durable_nb.engine.triggers import Starts

FilterError = tuple[waits.Place, str]
BATCH = 200
BACK_BATCH = 20  # events that a wait looks back on at once
PATIENCE_SECONDS = 1.0  # how long another process's event may stay unmatched before we do it


class Matcher:
    """Brings events to waits. Lives on the engine's loop; filters run on a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()
        self._looking = asyncio.Lock()

    async def match(self, key: str, event_id: str) -> EventReport:
        """Match all events of a key that are not matched yet; tell what the named one did."""
        [report] = await self.match_all([(key, event_id)])
        return report

    async def match_all(self, events: Sequence[tuple[str, str]]) -> list[EventReport]:
        """Match events by key and id that were accepted together; tell what each of them did."""
        reports = {event_id: EventReport(event_id=event_id, key=key) for key, event_id in events}
        async with self._turn:
            for key in dict.fromkeys(key for key, _ in events):
                while event := await self._next(key, before=float("inf")):
                    await self._match_one(event, reports.get(event.id) or EventReport(event_id=event.id, key=key))
        return list(reports.values())

    async def recover(self) -> None:
        """Match what another process accepted and did not finish."""
        await self.look_back()
        async with self._turn:
            while event := await self._next(None, before=self._engine.clock.now() - PATIENCE_SECONDS):
                await self._match_one(event, EventReport(event_id=event.id, key=event.key))

    def look_back_soon(self) -> None:
        """Have the waits that count earlier events looked after."""
        self._engine.begin(self.look_back())

    async def look_back(self) -> None:
        """Satisfy the waits that count earlier events, each by the latest that fits, whoever registered them."""
        async with self._looking:
            while back := await self._engine.reader.run(lookback.next_wait):
                found, error = await self._latest(back)
                await self._engine.writer.submit(partial(self._end, back, found, error), self._engine.route)

    async def _latest(self, back: lookback.BackWait) -> tuple[AcceptedEvent | None, str | None]:
        """Give the latest event of a wait's window that fits, and the last error of its filter before."""
        before, error, limit = back.floor + 1, None, BACK_BATCH if back.candidate.is_filtered else 1
        while events := await self._engine.reader.run(partial(lookback.events_before, back=back, seq=before, limit=limit)):
            found, failed = await asyncio.wrap_future(self._engine.threads.submit(partial(latest_of, back.candidate, events)))
            error, before = failed or error, events[-1].seq
            if found is not None:
                return found, error
        return None, error

    def _end(
        self, back: lookback.BackWait, found: AcceptedEvent | None, error: str | None, connection: sqlite3.Connection
    ) -> list[Completion]:
        return lookback.end(connection, back, found, error, at=self._engine.clock.now())

    async def _next(self, key: str | None, before: float) -> AcceptedEvent | None:
        return await self._engine.reader.run(lambda connection: waits.next_pending(connection, key=key, before=before))

    async def _match_one(self, event: AcceptedEvent, report: EventReport) -> None:
        payload, metadata = decode(event.payload), decode(event.metadata)
        after, is_last = waits.BEFORE_ALL, False
        starts = await self._engine.triggers.prepare(event, payload, metadata)
        while not is_last:
            batch = await self._candidates(event, after)
            after, is_last = (batch[-1].place if batch else after), len(batch) < BATCH
            matched, errors = await self._judge(batch, event, payload, metadata)
            await self._record(event, matched, errors, starts, is_last=is_last)
            await self._tell(report, matched, errors)
        starts.tell(report)

    async def _candidates(self, event: AcceptedEvent, after: waits.Place) -> list[waits.Candidate]:
        return await self._engine.reader.run(lambda connection: waits.candidates(connection, event, after, BATCH))

    async def _judge(
        self, batch: list[waits.Candidate], event: AcceptedEvent, payload: object, metadata: dict[str, object]
    ) -> tuple[list[waits.Place], list[FilterError]]:
        if not any(candidate.is_filtered for candidate in batch):
            return [candidate.place for candidate in batch], []
        return await asyncio.wrap_future(self._engine.threads.submit(lambda: judge(batch, event, payload, metadata)))

    async def _record(
        self, event: AcceptedEvent, matched: list[waits.Place], errors: list[FilterError], starts: Starts, *, is_last: bool
    ) -> None:
        at = self._engine.clock.now()

        def work(connection: sqlite3.Connection) -> list[Completion]:
            return waits.match(connection, event, matched, errors, is_last=is_last, at=at, start=starts.write)

        await self._engine.writer.submit(work, self._engine.route)

    async def _tell(self, report: EventReport, matched: list[waits.Place], errors: list[FilterError]) -> None:
        ids = await self._engine.ids_of({place[0] for place in matched} | {place[0] for place, _ in errors})
        report.matched_runs += [ids[place[0]] for place in matched]
        report.near_misses += [f"{ids[place[0]]}: {message}" for place, message in errors]


def judge(
    batch: list[waits.Candidate], event: AcceptedEvent, payload: object, metadata: dict[str, object]
) -> tuple[list[waits.Place], list[FilterError]]:
    """Give the places whose filter agrees, and those whose filter failed, with the error."""
    matched, errors = [], []
    for candidate in batch:
        fits, error = verdict(candidate, event, payload, metadata)
        if fits:
            matched.append(candidate.place)
        elif error is not None:
            errors.append((candidate.place, error))
    return matched, errors


def latest_of(candidate: waits.Candidate, events: list[AcceptedEvent]) -> tuple[AcceptedEvent | None, str | None]:
    """Give the first of the events that a condition takes, and the error of the first that its filter failed on."""
    first_error = None
    for event in events:
        fits, error = verdict(candidate, event, decode(event.payload), decode(event.metadata))
        if fits:
            return event, first_error
        first_error = first_error or error
    return None, first_error


def verdict(
    candidate: waits.Candidate, event: AcceptedEvent, payload: object, metadata: dict[str, object]
) -> tuple[bool, str | None]:
    """Tell whether a condition takes an event, and why not where that is an error."""
    try:
        condition = compile_filter(candidate.expression or "")
        if not condition.matches(input=payload, additional_metadata=metadata, event_key=event.key, scope=event.scope):
            return False, None
        reason = misfit(payload, candidate.schema) if candidate.schema else None
    except (ExpressionError, ExpressionEvaluationError) as error:
        return False, str(error)
    except Exception as error:  # a schema's pattern that this `re` does not know: it may stop a wait, never the engine
        return False, f"The payload cannot be judged: {type(error).__name__}: {error}"
    return reason is None, None if reason is None else f"The payload does not fit the awaited type: {reason}"
