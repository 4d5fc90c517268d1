"""What a new run needs before it may run: places, units of rates, and a key that no other run has. Records only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A place that a new run needs in a crowd of its concurrency key ('runs'), or units of a rate limit ('rate').

    Attributes:
        most: how much there is; None for a rate limit that is set in the log.
        seconds: the window of a rate limit.
    """

    kind: str
    key: str
    most: int | None
    task: str = ""
    expression: str = ""
    seconds: float | None = None
    units: int = 1
    strategy: str = ""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key that only one run of a task may have: for some seconds, while its status is one of some, or for good."""

    key: str
    seconds: float | None = None
    statuses: tuple[str, ...] | None = None
