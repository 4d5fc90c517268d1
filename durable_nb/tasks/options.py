"""Options of a task: parsed and checked where they are declared, so that a run can rely on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from durable_nb.errors import DeclarationError, DurableError, InputValidationError
from durable_nb.tasks import flow
from durable_nb.tasks.durations import format_duration, parse_duration
from durable_nb.tasks.payload import encode

if TYPE_CHECKING:
    from durable_nb.tasks.task import Kind


@dataclass(frozen=True)
class EvictionPolicy:
    """When a waiting durable task gives back its slot.

    Attributes:
        ttl: how long it may wait in memory first; None never evicts it for age.
        allow_capacity_eviction: whether it may be evicted at once when another durable run needs its slot.
        priority: among waiting runs the lowest is evicted first, then the one that has waited longest.
    """

    ttl: timedelta | None = timedelta(minutes=15)
    allow_capacity_eviction: bool = True
    priority: int = 0


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What `@durable.task` and `@durable.durable_task` take beside the function. Durations are seconds here.

    Backoff before attempt n+1 is ``min(backoff_factor ** n, backoff_max_seconds)`` seconds, as in Hatchet; without a factor
    none. What `on_exhausted` says befalls a run whose retries ran out: it fails, or is parked until a person takes it up again.
    A regular task with an `executor` runs elsewhere: ``"process"``, or as `durable.executor` has named it.
    """

    retries: int = 0
    backoff_factor: float | None = None
    backoff_max_seconds: float | None = None
    execution_timeout: float | None = None
    schedule_timeout: float | None = None
    cancel_grace: float = 30.0
    deadline: float | None = None
    on_exhausted: str = "fail"
    default_priority: int = 1
    default_additional_metadata: Mapping[str, object] = field(default_factory=dict)
    eviction_policy: EvictionPolicy | None = EvictionPolicy()
    concurrency: tuple[flow.ConcurrencyExpression, ...] = ()
    rate_limits: tuple[flow.RateLimit, ...] = ()
    idempotency: flow.Idempotency | None = None
    on_events: tuple[str, ...] = ()
    default_filters: tuple[flow.DefaultFilter, ...] = ()
    on_crons: tuple[flow.Cron, ...] = ()
    executor: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if type(self.retries) is not int or self.retries < 0:
            raise DeclarationError(f"retries={self.retries!r}: give a whole number, 0 or more.")
        if self.default_priority not in (1, 2, 3):
            raise DeclarationError(f"default_priority={self.default_priority!r} is unknown: give 1 (low), 2 or 3 (high).")
        if self.on_exhausted not in ("fail", "park"):
            raise DeclarationError(f"on_exhausted={self.on_exhausted!r} is unknown: give 'fail' or 'park'.")
        for name in ("backoff_factor", "backoff_max_seconds"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | float) or not value > 0):
                raise DeclarationError(f"{name}={value!r}: give a number above 0.")
        if self.eviction_policy is not None and not isinstance(self.eviction_policy, EvictionPolicy):
            raise DeclarationError(f"eviction_policy={self.eviction_policy!r}: give an EvictionPolicy, or None.")
        if self.executor is not None and (type(self.executor) is not str or self.executor in ("", *OWN_LANES)):
            raise DeclarationError(
                f"executor={self.executor!r} is none: give 'process', or a name that durable.executor(…) was given."
            )
        if self.resources and self.executor in (None, "process"):
            raise DeclarationError(
                "resources=… says what a task needs of a cluster: give executor='dask' beside it, or leave it out."
            )
        if not isinstance(self.resources, Mapping):
            raise DeclarationError(f"resources={self.resources!r}: give a dict, such as {{'GPU': 1}}.")
        for name, amount in self.resources.items():
            if type(name) is not str or type(amount) not in (int, float) or not amount > 0:
                raise DeclarationError(f"resources[{name!r}]={amount!r}: give a name and a number above 0.")
        for name, normal in NORMAL.items():
            object.__setattr__(self, name, normal(getattr(self, name)))

    def backoff(self, retry_count: int) -> float:
        """Seconds to wait before retry number `retry_count` (from 1)."""
        if self.backoff_factor is None:
            return 0.0
        ceiling = float("inf") if self.backoff_max_seconds is None else self.backoff_max_seconds
        try:
            return min(self.backoff_factor**retry_count, ceiling)
        except OverflowError:
            return min(3.15e8, ceiling)


ELSEWHERE = {"executor", "resources"}
OWN_LANES = ("durable", "loop", "thread")  # where the engine itself runs tasks: names that no executor has

NORMAL: Mapping[str, Callable[[Any], Any]] = {
    "concurrency": flow.normal_concurrency,
    "rate_limits": flow.normal_rate_limits,
    "idempotency": flow.normal_idempotency,
    "on_events": flow.normal_events,
    "default_filters": flow.normal_filters,
    "on_crons": flow.normal_crons,
}
__all__ = [
    "EvictionPolicy",
    "TaskOptions",
    "deadline_of",
    "format_duration",
    "make_options",
    "options_from_json",
    "options_to_json",
    "parse_duration",
]


def deadline_of(deadline: timedelta | datetime | None, default: float | None, now: float) -> float | None:
    """Give when a run is cancelled, UTC seconds, or None.

    Args:
        deadline: a duration from now on, or a time. default: the task's own, in seconds.

    Raises:
        InputValidationError: it is neither, is negative, or has no time zone.
    """
    match deadline:
        case None:
            return None if default is None else now + default
        case timedelta() if deadline >= timedelta(0):
            return now + deadline.total_seconds()
        case datetime() if deadline.tzinfo is not None:
            return deadline.timestamp()
        case _:
            raise InputValidationError(
                f"deadline={deadline!r}: give a timedelta of zero or more, or a datetime with a time zone."
            )


def make_options(kind: Kind, options: Mapping[str, Any], *, form: str | None = None) -> TaskOptions:
    """Check the options of a declaration; durations become seconds.

    Args:
        form: the declaration as people write it, for errors.

    Raises:
        DeclarationError: an option that is unknown, is not for this kind of task, or cannot work.
    """
    known = {field.name for field in fields(TaskOptions)} - ({"eviction_policy"} if kind == "task" else ELSEWHERE)
    if kind != "task" and ELSEWHERE & set(options):
        raise DeclarationError(
            f"{form or f'@durable.{kind}'} has no option 'executor': a durable task stays beside the log. Let it run a regular "
            "task that has one."
        )
    for option in options:
        if option not in known:
            raise DeclarationError(f"{form or f'@durable.{kind}'} has no option '{option}'; it has {', '.join(sorted(known))}.")
    seconds = {
        option: parse_duration(options[option], of=option).total_seconds()
        for option in ("execution_timeout", "schedule_timeout", "cancel_grace", "deadline")
        if options.get(option) is not None
    }
    metadata = options.get("default_additional_metadata") or {}
    try:
        encode(metadata, of="default_additional_metadata", artifacts=False)
    except DurableError as error:
        raise DeclarationError(str(error)) from None
    if options.get("resources") is None:
        options = {name: value for name, value in options.items() if name != "resources"}
    return TaskOptions(**{**options, **seconds, "default_additional_metadata": metadata})


def options_to_json(options: TaskOptions) -> dict[str, Any]:
    """Give options as values for `json.dumps(default=flow.plain)`."""
    return asdict(
        replace(options, default_additional_metadata=dict(options.default_additional_metadata), resources=dict(options.resources))
    )


def options_from_json(values: Mapping[str, Any]) -> TaskOptions:
    """Read what `options_to_json` and `json` made.

    Raises:
        KeyError, TypeError, ValueError, DeclarationError: another version of durable_nb made it.
    """
    policy = values["eviction_policy"]
    if policy is not None:
        ttl = policy["ttl"]
        policy = EvictionPolicy(**{**policy, "ttl": timedelta(seconds=ttl) if ttl is not None else None})
    return TaskOptions(**{**values, "eviction_policy": policy})
