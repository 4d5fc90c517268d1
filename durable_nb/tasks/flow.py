"""Flow control as it is declared: concurrency, rate limits, idempotency, event filters and crons.

Invariant: each declaration is checked and brought into one form where it is made (`normal_…`), and that form survives being
kept as JSON (`plain`), since a definition is restored from the log with its options. CEL expressions are compiled by whoever
serves the task; nothing here evaluates one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, TypeVar, get_args
from zoneinfo import ZoneInfo

from durable_nb.errors import DeclarationError
from durable_nb.tasks.durations import parse_duration

T = TypeVar("T")
CatchUp = Literal["skip", "last", "all"]
MAX_CRON_CHARS = 200


class ConcurrencyLimitStrategy(StrEnum):
    """What happens to a run whose concurrency key has no place left.

    ``GROUP_ROUND_ROBIN``: it waits, and the keys take turns. ``CANCEL_IN_PROGRESS``: the oldest runs of its key are cancelled
    for it. ``CANCEL_NEWEST``: it is cancelled itself.
    """

    GROUP_ROUND_ROBIN = "GROUP_ROUND_ROBIN"
    CANCEL_IN_PROGRESS = "CANCEL_IN_PROGRESS"
    CANCEL_NEWEST = "CANCEL_NEWEST"


@dataclass(frozen=True)
class ConcurrencyExpression:
    """At most `max_runs` runs of a task at once for each value of `expression`, in all processes on the log.

    A run holds its place from its first claim to its end: also while it waits evicted, is parked, or stands in the queue for a
    retry. A place of a process that died is held until the run was taken over and has ended.

    Attributes:
        expression: CEL over ``input`` and ``additional_metadata`` that gives text, a number or a bool; evaluated when the run is
            written. Empty: one key for all.
        max_runs: 1 or more.
        limit_strategy: what happens when there is no place.

    Example:
        >>> ConcurrencyExpression("input.customer", max_runs=2).limit_strategy.value
        'GROUP_ROUND_ROBIN'
    """

    expression: str = ""
    max_runs: int = 1
    limit_strategy: ConcurrencyLimitStrategy = ConcurrencyLimitStrategy.GROUP_ROUND_ROBIN

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _check_text(self.expression, "ConcurrencyExpression", "expression")
        _check_count(self.max_runs, "max_runs")
        try:
            object.__setattr__(self, "limit_strategy", ConcurrencyLimitStrategy(self.limit_strategy))
        except ValueError:
            raise DeclarationError(
                f"limit_strategy={self.limit_strategy!r} is unknown: give one of "
                f"{', '.join(f'ConcurrencyLimitStrategy.{item.name}' for item in ConcurrencyLimitStrategy)}."
            ) from None


class RateLimitDuration(StrEnum):
    """The window of a rate limit. A month is 30 days, a year 365."""

    SECOND = "SECOND"
    MINUTE = "MINUTE"
    HOUR = "HOUR"
    DAY = "DAY"
    WEEK = "WEEK"
    MONTH = "MONTH"
    YEAR = "YEAR"

    @property
    def seconds(self) -> float:
        """Its length."""
        return WINDOW_SECONDS[self.value]


WINDOW_SECONDS = {
    "SECOND": 1.0,
    "MINUTE": 60.0,
    "HOUR": 3600.0,
    "DAY": 86_400.0,
    "WEEK": 7 * 86_400.0,
    "MONTH": 30 * 86_400.0,
    "YEAR": 365 * 86_400.0,
}


@dataclass(frozen=True)
class RateLimit:
    """What each attempt of a task uses of a rate limit; where too much would be used, it waits in the queue.

    The window slides: in no stretch of time as long as `duration` are more than the limit's units used, over all tasks that name
    the key and all processes on the log. An attempt uses its units when it is claimed; going on after an eviction or a crash uses
    none.

    Attributes:
        static_key: the name of a limit that `durable.rate_limits.put` has set.
        dynamic_key: CEL over ``input`` and ``additional_metadata`` that gives the name; `limit` and `duration` set it then.
        units: how many it uses, a number or CEL that gives one.
        limit: how many there are in a window, a number or CEL. For a dynamic key only.
        duration: the window. For a dynamic key only.

    Example:
        >>> RateLimit(dynamic_key="input.user", units=1, limit=10, duration=RateLimitDuration.MINUTE).units
        1
    """

    static_key: str | None = None
    dynamic_key: str | None = None
    units: int | str = 1
    limit: int | str | None = None
    duration: RateLimitDuration = RateLimitDuration.MINUTE

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        if (self.static_key is None) == (self.dynamic_key is None):
            raise DeclarationError("RateLimit takes either static_key or dynamic_key: give one of them.")
        for name in ("static_key", "dynamic_key"):
            if getattr(self, name) is not None:
                _check_text(getattr(self, name), "RateLimit", name)
        if self.dynamic_key is None and self.limit is not None:
            raise DeclarationError(
                f"RateLimit(static_key={self.static_key!r}) takes no limit: durable.rate_limits.put({self.static_key!r}, "
                f"{self.limit!r}) sets it."
            )
        if self.dynamic_key is not None and self.limit is None:
            raise DeclarationError("RateLimit with a dynamic_key needs its limit: a number, or CEL that gives one.")
        for name in ("units", "limit"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                _check_count(value, name)
        object.__setattr__(self, "duration", window_of(self.duration))


def window_of(duration: object) -> RateLimitDuration:
    """Give the window of a rate limit by its member or name.

    Raises:
        DeclarationError: there is no such window.
    """
    try:
        return RateLimitDuration(duration)  # type: ignore[arg-type]
    except ValueError:
        names = ", ".join(item.name for item in RateLimitDuration)
        raise DeclarationError(f"duration={duration!r} is unknown: give a RateLimitDuration ({names}).") from None


@dataclass(frozen=True)
class TTLBasedIdempotencyConfig:
    """One run for each key within `ttl` of the first, whatever became of it: another one raises `IdempotencyCollisionError`.

    Attributes:
        key_expression: CEL over ``input`` and ``additional_metadata`` that gives text, a number or a bool.
        ttl: how long the key is taken; None for good.

    Example:
        >>> TTLBasedIdempotencyConfig(key_expression="input.id", ttl=timedelta(minutes=1)).ttl
        datetime.timedelta(seconds=60)
    """

    key_expression: str
    ttl: timedelta | None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _check_text(self.key_expression, "TTLBasedIdempotencyConfig", "key_expression", is_needed=True)
        _set_duration(self, "ttl")


@dataclass(frozen=True)
class StatusBasedIdempotencyConfig:
    """One run for each key as long as it has one of some statuses: another one raises `IdempotencyCollisionError`.

    Attributes:
        key_expression: CEL over ``input`` and ``additional_metadata`` that gives text, a number or a bool.
        fallback_ttl: after which the key is free whatever the run's status is; None: never.
        while_status: statuses in which a run keeps its key; those of a run that has not ended where not said.
    """

    key_expression: str
    fallback_ttl: timedelta | None = None
    while_status: Sequence[str] = ("QUEUED", "RUNNING")

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _check_text(self.key_expression, "StatusBasedIdempotencyConfig", "key_expression", is_needed=True)
        _set_duration(self, "fallback_ttl")
        known = ("QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED")
        statuses = tuple(self.while_status)
        if not statuses or not set(statuses) <= set(known):
            raise DeclarationError(f"while_status={self.while_status!r}: give some of {', '.join(known)}.")
        object.__setattr__(self, "while_status", statuses)


Idempotency = TTLBasedIdempotencyConfig | StatusBasedIdempotencyConfig


@dataclass(frozen=True)
class DefaultFilter:
    """Which events start a task that listens to their key. Without any filter all do; with several, one that agrees is enough.

    Attributes:
        expression: CEL over ``input`` (the event's payload), ``additional_metadata``, ``event_key``, ``scope`` and ``payload``
            (the filter's own).
        scope: takes only events pushed with this very scope; None takes events of every scope.
        payload: for `expression`, and for the run that it lets start.
    """

    expression: str
    scope: str | None = None
    payload: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        _check_text(self.expression, "DefaultFilter", "expression")
        if self.scope is not None:
            _check_text(self.scope, "DefaultFilter", "scope")
        if not isinstance(self.payload, Mapping):
            raise DeclarationError(f"DefaultFilter takes a payload that is a dict, not a {type(self.payload).__name__}.")


@dataclass(frozen=True)
class Cron:
    """A cron expression with more to say than its text. `on_crons` takes both.

    At a change of summer time, jobs of fixed hours run once, as in Debian's cron: what falls into the hour that is left out runs
    after it, what falls into the hour that comes twice runs in the first.

    Attributes:
        expression: five fields (minute, hour, day, month, weekday), or six with seconds first.
        timezone: an IANA name, such as ``"Europe/Rome"``.
        catch_up: what becomes of ticks that are more than a minute past when somebody is there to run them: ``"skip"`` (none
            runs), ``"last"`` (the last of them runs), ``"all"``.
        input: of the runs; none where not said.

    Example:
        >>> Cron("0 9 * * MON-FRI", timezone="Europe/Rome", catch_up="last").timezone
        'Europe/Rome'
    """

    expression: str
    timezone: str = "UTC"
    catch_up: CatchUp = "skip"
    input: object = None

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        check_cron(self.expression, self.timezone)
        if self.catch_up not in get_args(CatchUp):
            raise DeclarationError(f"catch_up={self.catch_up!r} is unknown: give 'skip', 'last' or 'all'.")


def check_cron(expression: object, timezone: object) -> None:
    """Refuse a cron expression that has no meaning, or no tick.

    Raises:
        DeclarationError: with what is wrong.
    """
    if not isinstance(expression, str) or len(expression) > MAX_CRON_CHARS:
        raise DeclarationError(f"A cron expression is text of at most {MAX_CRON_CHARS} characters, such as '0 9 * * *'.")
    try:
        zone = ZoneInfo(str(timezone))
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        raise DeclarationError(_no_zone(timezone)) from None
    except KeyError:
        raise DeclarationError(_no_zone(timezone)) from None
    from cronsim import CronSim, CronSimError

    try:
        next(CronSim(expression, datetime.now(UTC).astimezone(zone)))
    except CronSimError as error:
        raise DeclarationError(
            f"The cron expression '{expression}' cannot be read ({error}): write minute, hour, day, month and weekday, "
            "such as '0 9 * * *' for nine o'clock each day."
        ) from None
    except StopIteration:
        raise DeclarationError(f"The cron expression '{expression}' has no tick in the next 50 years.") from None


def _no_zone(timezone: object) -> str:
    return f"timezone={timezone!r} is unknown here: give an IANA name, such as 'Europe/Rome'."


def normal_concurrency(value: Any) -> tuple[ConcurrencyExpression, ...]:
    """Bring the option `concurrency` into its one form."""
    if type(value) is int:
        return (ConcurrencyExpression("", value),)
    items = _listed(value, ConcurrencyExpression, "concurrency", "a number, a ConcurrencyExpression, or a list of them")
    if len({item.expression for item in items}) < len(items):
        raise DeclarationError("concurrency names one expression twice: give each once, with the limit that holds.")
    return items


def normal_rate_limits(value: Any) -> tuple[RateLimit, ...]:
    """Bring the option `rate_limits` into its one form."""
    return _listed(value, RateLimit, "rate_limits", "a list of RateLimit")


def normal_filters(value: Any) -> tuple[DefaultFilter, ...]:
    """Bring the option `default_filters` into its one form."""
    return _listed(value, DefaultFilter, "default_filters", "a list of DefaultFilter")


def normal_crons(value: Any) -> tuple[Cron, ...]:
    """Bring the option `on_crons` into its one form."""
    given = [value] if isinstance(value, str | Cron) else list(value or ())
    crons = [Cron(item) if isinstance(item, str) else item for item in given]
    return _listed(crons, Cron, "on_crons", "a list of cron expressions")


def normal_events(value: Any) -> tuple[str, ...]:
    """Bring the option `on_events` into its one form."""
    items = (value,) if isinstance(value, str) else tuple(value or ())
    for item in items:
        if not isinstance(item, str) or not item:
            raise DeclarationError(f"on_events holds {item!r}: give keys of events, such as 'user:created' or 'user:*'.")
        _check_text(item, "on_events", "key")
    return tuple(dict.fromkeys(items))


def normal_idempotency(value: Any) -> Idempotency | None:
    """Bring the option `idempotency` into its one form."""
    if isinstance(value, Mapping):
        value = (TTLBasedIdempotencyConfig if "ttl" in value else StatusBasedIdempotencyConfig)(**value)
    if value is not None and not isinstance(value, Idempotency):
        raise DeclarationError(
            f"idempotency={value!r}: give a TTLBasedIdempotencyConfig or a StatusBasedIdempotencyConfig, with its key_expression."
        )
    return value


def plain(value: object) -> object:
    """Give what JSON does not know of a declaration as what the declarations read back: for `json.dumps(default=plain)`."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    raise TypeError(f"A declaration holds a {type(value).__name__}, which JSON cannot hold.")


def _listed(value: Any, kind: Callable[..., T], name: str, wanted: str) -> tuple[T, ...]:
    items = () if value is None else (value,) if isinstance(value, kind) else value  # type: ignore[arg-type]
    if not isinstance(items, list | tuple):
        raise DeclarationError(f"{name}={value!r}: give {wanted}.")
    made = tuple(kind(**item) if isinstance(item, Mapping) else item for item in items)
    if not all(isinstance(item, kind) for item in made):  # type: ignore[arg-type]
        raise DeclarationError(f"{name}={value!r}: give {wanted}.")
    return made


def _check_text(value: object, kind: str, name: str, *, is_needed: bool = False) -> None:
    if not isinstance(value, str) or (is_needed and not value.strip()):
        raise DeclarationError(f"{kind} takes {name} as text, not {value!r}.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise DeclarationError(f"{kind} takes {name} as text that UTF-8 can hold, not {value!a}.") from None


def _check_count(value: object, name: str) -> None:
    if type(value) is not int or not 1 <= value < 2**31:
        raise DeclarationError(f"{name}={value!r}: give a whole number, 1 or more.")


def _set_duration(config: object, name: str) -> None:
    value = getattr(config, name)
    if value is not None:
        object.__setattr__(config, name, parse_duration(value, of=name))
