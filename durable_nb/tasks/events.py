"""Events as they are pushed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class BulkPushEventWithMetadata:
    """One event of `durable.event.bulk_push`.

    Attributes:
        key: such as ``"user:created"``.
        payload: any JSON value, or a model.
        priority: 1 (low) to 3 (high), of the runs that it starts; their task's default where not given.
        scope: waits and filters with a scope take only events of theirs.

    Example:
        >>> BulkPushEventWithMetadata(key="user:created", payload={"id": 7}).scope is None
        True
    """

    key: str
    payload: object = field(default_factory=dict)
    additional_metadata: Mapping[str, object] = field(default_factory=dict)
    priority: int | None = None
    scope: str | None = None


PushedEvent = BulkPushEventWithMetadata
