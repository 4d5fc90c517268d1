"""Which runs a call of `durable.runs` is about: named, or chosen by filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from durable_nb.errors import DeclarationError, InputValidationError
from durable_nb.tasks.payload import encode_given
from durable_nb.tasks.refs import RunRef

if TYPE_CHECKING:
    from durable_nb.log.reads import RunFilter

STATUSES = ("QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")


def name_of(run: str | RunRef[Any]) -> str:
    """Give what names a run."""
    return run.workflow_run_id if isinstance(run, RunRef) else run


def choose(runs: Sequence[str | RunRef[Any]] | None, call: str, **filters: Any) -> list[str] | RunFilter:
    """Give the runs of a bulk call: names, or a filter.

    Raises:
        DeclarationError: both are given, or none.
    """
    is_filtered = any(value is not None for value in filters.values())
    if (runs is not None) == is_filtered:
        raise DeclarationError(
            f"{call} takes either runs or filters (status, task, since, until, metadata, event): with neither it would be all."
        )
    if isinstance(runs, str | RunRef):
        raise DeclarationError(f"{call} takes a list of runs: `{call}([run])`.")
    return make_filter(**filters) if runs is None else [name_of(run) for run in runs]


def make_filter(
    *,
    status: str | Sequence[str] | None,
    since: datetime | None,
    until: datetime | None,
    metadata: Mapping[str, object] | None,
    **rest: Any,
) -> RunFilter:
    """Check what runs are chosen by.

    Raises:
        InputValidationError: a status that there is not, or a time without zone.
    """
    from durable_nb.log.reads import RunFilter

    statuses = None if status is None else (status,) if isinstance(status, str) else tuple(status)
    for name in statuses or ():
        if name not in STATUSES:
            raise InputValidationError(f"status={name!r} is unknown: give {', '.join(STATUSES)}.")
    for which, moment in (("since", since), ("until", until)):
        if moment is not None and (moment.tzinfo is None):
            raise InputValidationError(f"{which}={moment!r}: give a datetime with a time zone, for example datetime.now(UTC).")
    return RunFilter(
        status=statuses,
        since=since.timestamp() if since else None,
        until=until.timestamp() if until else None,
        metadata=None if metadata is None else encode_given(dict(metadata), of="the metadata"),
        **rest,
    )
