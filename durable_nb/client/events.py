"""`durable.event`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from durable_nb.client.forms import Group, sync_form

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
        scope: str | None = None,
    ) -> EventReport:
        """Push an event; inside a durable task as a checkpoint. It reaches every wait that was registered before it.

        Args:
            key: such as ``"approve:sales"``. payload: any JSON value, or a model.
            scope: waits with a scope take only events of theirs.

        Returns:
            What it did: `.matched_runs` (ids), `.near_misses` (filters that failed on it).
        """
        from durable_nb.engine.running import push

        engine = self._host.engine
        return await self._on_loop(
            lambda: push(engine, key, {} if payload is None else payload, scope=scope, metadata=dict(additional_metadata or {}))
        )

    push = sync_form(aio_push)
