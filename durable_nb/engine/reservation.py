"""Reserving slots for runs that are being made, so that they start in the transaction that makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from durable_nb.log.records import Effects

if TYPE_CHECKING:
    from durable_nb.engine.dispatch import Dispatcher
    from durable_nb.log.records import Claim
    from durable_nb.tasks.task import Lane, Task


class Reservation:
    """Slots that are held while new runs are written, so that the first of them need no claim of their own.

    `take` runs inside the writing transaction, the rest on the loop; `settle` comes after it.
    """

    def __init__(self, dispatcher: Dispatcher, task: Task[Any] | None, wanted: int) -> None:
        self._dispatcher = dispatcher
        self._lane: Lane = task.lane if task else "loop"
        self._slots = dispatcher.reserve(task, wanted) if task else 0
        self._claims: list[Claim] = []
        self._taken = 0  # runs that were written
        self._effects = Effects()

    def clear(self) -> None:
        """Begin the transaction."""
        self._claims.clear()
        self._taken = 0
        self._effects.clear()

    @property
    def is_free(self) -> bool:
        """Whether the next run finds a slot."""
        return len(self._claims) < self._slots

    def take(self, claim: Claim | None, effects: Effects) -> None:
        """Give a slot to a run that was written and claimed; keep in mind what became of others for it."""
        self._taken += 1
        if claim is not None:
            self._claims.append(claim)
        self._effects.add(effects)

    def settle(self, is_written: bool) -> None:
        """Start the runs that have a slot; give back the slots that were not needed."""
        started = self._claims if is_written else []
        self._dispatcher.start(started, self._lane)
        self._dispatcher.give(self._lane, self._slots - len(started))
        if is_written:
            self._dispatcher.apply(self._effects)
            if len(started) < self._taken:
                self._dispatcher.look()
