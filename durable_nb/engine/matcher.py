"""Matching events with waits: in order of acceptance, in bounded batches, filters evaluated off the write lock.

Whoever pushes an event matches it; another worker takes over events that stay unmatched for a while, since their pusher may
be dead. Two that match the same event do no harm: what is recorded is recorded once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from durable_nb.engine.cel import compile_filter
from durable_nb.engine.cel.equalities import Told
from durable_nb.errors import ExpressionError, ExpressionEvaluationError
from durable_nb.log import lookback, waits
from durable_nb.log.records import AcceptedEvent, Completion, EventReport
from durable_nb.log.triggers import Listener, listeners_of
from durable_nb.tasks.payload import decode
from durable_nb.tasks.schemas import misfit

if TYPE_CHECKING:
    import sqlite3

    from durable_nb.engine.engine import Engine
    from durable_nb.engine.triggers import Starts

FilterError = tuple[waits.Place, str]
BATCH = 200  # conditions of a pass
EVENTS = 100  # of a pass
SLICE = 4  # filters between two rests of the thread that judges them: some 20 µs
REST_SECONDS = 1e-6  # that is, as short as the system's timer allows
BACK_BATCH = 20  # events that a wait looks back on at once
PATIENCE_SECONDS = 1.0  # how long another process's event may stay unmatched before we do it


@dataclass(slots=True)
class Meeting:
    """An event with conditions that it may satisfy, and what came of them.

    Attributes:
        listeners: the tasks that it may start; for the meeting that is its last.
        rest: where its next meeting begins; None for the last.
    """

    event: AcceptedEvent
    payload: Any
    metadata: dict[str, Any]
    candidates: list[waits.Candidate]
    listeners: list[Listener]
    rest: waits.Spot | None
    matched: list[waits.Place] = field(default_factory=list)
    errors: list[FilterError] = field(default_factory=list)
    starts: Starts | None = None

    @property
    def is_recorded(self) -> bool:
        """Whether there is anything to take down."""
        return self.rest is None or bool(self.matched or self.errors)


class Matcher:
    """Brings events to waits. Lives on the engine's loop; filters run on a thread."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._turn = asyncio.Lock()
        self._looking = asyncio.Lock()
        self._reports: dict[str, EventReport] = {}  # of the events that somebody waits for, by id, until they are matched

    async def match(self, key: str) -> None:
        """Match all events of a key that are not matched yet."""
        async with self._turn:
            await self._match(key)

    async def match_all(self, reports: Sequence[EventReport]) -> None:
        """Match events that were accepted together, and fill in the reports of what they did."""
        self._reports |= {report.event_id: report for report in reports}
        try:
            for report in reports:
                async with self._turn:  # who has it matches for all who wait for it
                    if report.event_id in self._reports:
                        await self._match(report.key)
        finally:
            for report in reports:
                self._reports.pop(report.event_id, None)

    async def recover(self) -> None:
        """Match what another process accepted and did not finish."""
        await self.look_back()
        before = self._engine.clock.now() - PATIENCE_SECONDS
        while (key := await self._engine.reader.run(partial(waits.key_left, before=before))) is not None:
            await self.match(key)

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

    async def _match(self, key: str) -> None:
        seq, rest = 0, None
        while meetings := await self._engine.reader.run(partial(meet, key=key, seq=seq, rest=rest)):
            await self._judge(meetings)
            for meeting in meetings:
                if meeting.rest is None:
                    meeting.starts = await self._engine.triggers.prepare(
                        meeting.event, meeting.listeners, meeting.payload, meeting.metadata
                    )
            recorded = [meeting for meeting in meetings if meeting.is_recorded]
            if recorded:
                await self._engine.writer.submit(partial(self._record, recorded), self._engine.route)
                await self._tell(recorded)
            seq, rest = meetings[-1].event.seq, meetings[-1].rest

    async def _judge(self, meetings: Sequence[Meeting]) -> None:
        filtered = [meeting for meeting in meetings if any(candidate.is_filtered for candidate in meeting.candidates)]
        for meeting in meetings:
            meeting.matched = [candidate.place for candidate in meeting.candidates]
        if filtered:
            await asyncio.wrap_future(self._engine.threads.submit(partial(judge, filtered)))

    def _record(self, meetings: Sequence[Meeting], connection: sqlite3.Connection) -> list[Completion]:
        at, completions = self._engine.clock.now(), list[Completion]()
        for meeting in meetings:
            start = meeting.starts.write if meeting.starts else None
            matched = waits.match(
                connection, meeting.event, meeting.matched, meeting.errors, is_last=meeting.rest is None, at=at, start=start
            )
            meeting.matched, meeting.errors = matched.places, matched.errors
            completions += matched.completions
        return completions

    async def _tell(self, meetings: Sequence[Meeting]) -> None:
        """Fill in the reports of those who wait, and start what has a slot."""
        reports = [(meeting, self._reports.get(meeting.event.id)) for meeting in meetings]
        numbers = {
            place[0]
            for meeting, report in reports
            if report is not None
            for place in [*meeting.matched, *(place for place, _ in meeting.errors)]
        }
        ids = await self._engine.ids_of(numbers) if numbers else {}
        for meeting, known in reports:
            report = known or EventReport(event_id=meeting.event.id, key=meeting.event.key)
            if known is not None:
                report.matched_runs += [ids[place[0]] for place in meeting.matched]
                report.near_misses += [f"{ids[place[0]]}: {message}" for place, message in meeting.errors]
            if meeting.starts is not None:
                meeting.starts.tell(report)
                self._reports.pop(meeting.event.id, None)


def meet(connection: sqlite3.Connection, *, key: str, seq: int, rest: waits.Spot | None) -> list[Meeting]:
    """Bring the next events of a key together with the conditions that they may satisfy. Reads only.

    Args:
        seq: the event that was met last.
        rest: where its next meeting begins; None if that was its last.
    """
    meetings: list[Meeting] = []
    room = BATCH
    while (
        room > 0 and len(meetings) < EVENTS and (event := waits.next_pending(connection, key, seq if rest is None else seq - 1))
    ):
        payload, metadata = decode(event.payload), decode(event.metadata)
        told = Told({"input": payload, "additional_metadata": metadata, "event_key": event.key, "scope": event.scope})
        start = rest if rest is not None and event.seq == seq else waits.FIRST_SPOT  # another process may have gone on with it
        found, rest = waits.candidates(connection, event, told.value_of, start, room)
        listeners = listeners_of(connection, event) if rest is None else []
        meetings.append(Meeting(event, payload, metadata, found, listeners, rest))
        seq, room = event.seq, 0 if rest else room - len(found)
    return meetings


def judge(meetings: Sequence[Meeting]) -> None:
    """Tell the places whose filter agrees, and those whose filter failed, with the error.

    It rests now and then, since what keeps the interpreter delays everybody's checkpoints.
    """
    judged = 0
    for meeting in meetings:
        meeting.matched = []
        for candidate in meeting.candidates:
            fits, error = verdict(candidate, meeting.event, meeting.payload, meeting.metadata)
            if fits:
                meeting.matched.append(candidate.place)
            elif error is not None:
                meeting.errors.append((candidate.place, error))
            judged += 1
            if judged % SLICE == 0:
                time.sleep(REST_SECONDS)


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
