"""`durable.event`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from durable_nb.client.forms import Group, sync_form
from durable_nb.errors import InputValidationError
from durable_nb.tasks.events import BulkPushEventWithMetadata

if TYPE_CHECKING:
    from durable_nb.log.records import EventReport


class Events(Group):
    """`durable.event`: pushing events."""

    async def aio_push(
        self,
        key: str,
        payload: object = None,
        *,
        additional_metadata: Mapping[str, object] | None = None,
        priority: int | None = None,
        scope: str | None = None,
    ) -> EventReport:
        """Push an event; inside a durable task as a checkpoint.

        It reaches every wait that was registered before it, and starts a run of each task that listens to its key (`on_events`).

        Args:
            key: such as ``"approve:sales"``. payload: any JSON value, or a model.
            priority: 1 (low) to 3 (high), of the runs that it starts; their task's default where not given.
            scope: waits and filters with a scope take only events of theirs.

        Returns:
            What it did: `.matched_runs` (ids), `.started_runs` (ids), `.near_misses` (what failed on it, in words).
        """
        from durable_nb.engine.running import push

        engine = self._host.engine
        event = BulkPushEventWithMetadata(
            key=key,
            payload={} if payload is None else payload,
            additional_metadata=additional_metadata or {},
            priority=priority,
            scope=scope,
        )
        [report] = await self._on_loop(lambda: push(engine, [event]))
        return report

    push = sync_form(aio_push)

    async def aio_bulk_push(self, events: Sequence[BulkPushEventWithMetadata | Mapping[str, Any]]) -> list[EventReport]:
        """Push events, all accepted in one transaction, in this order; inside a durable task as one checkpoint.

        Args:
            events: `BulkPushEventWithMetadata`, or dicts with its fields.

        Returns:
            What each of them did, in the order given.

        Raises:
            InputValidationError: one of them cannot be an event; none was accepted.
        """
        from durable_nb.engine.running import push

        engine, made = self._host.engine, [_event(item) for item in events]
        return await self._on_loop(lambda: push(engine, made))

    bulk_push = sync_form(aio_bulk_push)


def _event(item: object) -> BulkPushEventWithMetadata:
    if isinstance(item, BulkPushEventWithMetadata):
        return item
    try:
        return BulkPushEventWithMetadata(**item)  # type: ignore[arg-type]
    except TypeError as error:
        raise InputValidationError(
            f"{item!r} is no event ({error}): give BulkPushEventWithMetadata(key=..., payload=...), or a dict with its fields."
        ) from None
