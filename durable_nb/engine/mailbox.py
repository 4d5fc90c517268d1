"""Mailboxes: the events of a key since the run began, each taken once, in the order in which they were accepted.

Invariant: a take either finds the next event in the transaction that asks for it, or stands as a wait from that transaction
on; so no event falls between two takes. How far a mailbox has come is told by what was delivered to it, in a replay as well; a
take that was given up has taken nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any

from durable_nb.engine.asks import ask_of
from durable_nb.engine.registering import register
from durable_nb.log import checkpoints, mailboxes, waits
from durable_nb.log.payloads import loaded
from durable_nb.log.records import Completion, NewWait, Outcome
from durable_nb.tasks.payload import check_text, decode

if TYPE_CHECKING:
    from durable_nb.engine.execution import Execution


class Mailbox:
    """A durable, ordered mailbox of events. Made by `ctx.aio_events`, and used as ``async for`` or by ``await anext(mailbox)``.

    Each event is given once, as its payload, and each take is a checkpoint.

    Args:
        which: the number of this mailbox among those of the same key and scope, from 0.
    """

    def __init__(self, execution: Execution, key: str, scope: str | None, which: int) -> None:
        check_text(key, of="an event's key")
        if scope is not None:
            check_text(scope, of=f"the scope of event '{key}'")
        self._execution = execution
        self._name = (key, scope, which)
        self._last: int | None = None
        self._turn = asyncio.Lock()  # two that take at once take one after the other

    def __repr__(self) -> str:
        key, scope, _ = self._name
        return f"<mailbox {key!r}{f' in scope {scope!r}' if scope is not None else ''}>"

    @property
    def position(self) -> mailboxes.Position | None:
        """How far it has come in this history; None where nothing was taken."""
        return None if self._last is None else (*self._name, self._last)

    def is_of(self, key: str, scope: str | None) -> bool:
        """Whether it is a mailbox of this key and scope."""
        return self._name[:2] == (key, scope)

    def __aiter__(self) -> Mailbox:
        return self

    async def __anext__(self) -> Any:
        """Wait for the next event; give its payload."""
        async with self._turn:
            return await self._take()

    async def _take(self) -> Any:
        execution, last, (key, scope, which) = self._execution, self._last, self._name
        claim, at = execution.claim, execution.engine.clock.now()
        words = f"take {key}" + (f" in scope {scope}" if scope is not None else "")
        ask = ask_of("take", words, key, scope, which, line=execution.line())

        def find(connection: sqlite3.Connection, node: int) -> Completion | None:
            place = (claim.number, claim.branch)
            after = mailboxes.start_of(connection, *place, key, scope, which) if last is None else last
            found = mailboxes.next_event(connection, key, scope, after)
            if found is None:
                return None
            seq, payload = found
            outcome = Outcome(waits.taken(seq, loaded(connection, payload) or "null"))
            return checkpoints.complete(connection, *place, node, outcome, at=at)

        wait = NewWait(item=0, group=0, kind="event", name=key, key=key, scope=scope)
        node, pending = register(execution, ask, [wait], at=at, first=find)
        outcome = await execution.outcome(node, pending, ask)
        taken = decode(outcome.value or "null")
        self._last = taken["seq"]
        return taken["payload"]
