"""What the lines of `%%task`, `%%durable_task` and `%%workflow` take: the options of the decorators, in the same words.

An option that takes an object has a short form for what is said most (`--concurrency "input.customer=2"`) and takes JSON with all
the fields of its class beside (`--concurrency {"max_runs": 2, "limit_strategy": "CANCEL_NEWEST"}`).

Invariant: only what was given is handed on, so that every default stands where the decorators have it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from typing import Any

from IPython.core.error import UsageError

from durable_nb.notebook.arguments import Arguments, metadata_of, plain, seconds_or_text, value_of
from durable_nb.tasks import flow
from durable_nb.tasks.durations import parse_duration
from durable_nb.tasks.options import EvictionPolicy, TaskOptions, make_options
from durable_nb.tasks.task import Kind
from durable_nb.views.words import brief

CRON = ("timezone", "catch_up")
EVICTION = ("eviction_ttl", "eviction_priority", "no_capacity_eviction")
NEVER = "never"


def task_parser(kind: Kind) -> Arguments:
    """The line of `%%task` and `%%durable_task`."""
    form = "async def f(input, ctx)" if kind == "durable_task" else "def f(input, ctx)"
    parser = Arguments(f"%%{kind}", f"Run the cell, and make its `{form}` a task that `%durable run f` starts.")
    parser.add_argument("function", nargs="?", metavar="FUNCTION", help="which function, where the cell defines several")
    add = _adder(parser)
    add("--name", metavar="NAME", type=plain, help="the task's name, where it is not the function's")
    add("--description", metavar="WORDS", type=plain, help="what it does (the function's docstring)")
    _add_attempts(add)
    _add_starts(add)
    _add_flow(add)
    if kind == "durable_task":
        _add_eviction(add)
    else:
        add("--executor", metavar="NAME", type=plain, help="where it runs: process, dask, or as durable.executor(…) has named it")
        add("--resources", metavar="JSON", help='what it needs of a cluster: {"GPU": 1}')
    return parser


def workflow_parser() -> Arguments:
    """The line of `%%workflow`."""
    parser = Arguments(
        "%%workflow",
        "Run the cell, and make its functions the tasks of a workflow (DAG) that `%durable run NAME` starts.\n\n"
        "Each top-level function (input, ctx) is a task; others are helpers. A decorator says what it comes after, and all that\n"
        "`@NAME.task` takes: @task(parents=[extract], skip_if=…), @durable_task(…), @on_failure_task(), @on_success_task().\n"
        "`ctx.task_output(extract)` gives a parent's output.\n\n"
        "    %%workflow etl\n"
        "    def extract(input: dict, ctx) -> list: ...\n\n"
        "    @task(parents=[extract], retries=2)\n"
        "    def load(input: dict, ctx) -> int:\n"
        "        return len(ctx.task_output(extract))",
    )
    parser.add_argument("name", metavar="NAME", type=plain, help="the workflow's name, under which it stands in the notebook")
    add = _adder(parser)
    add("--description", metavar="WORDS", type=plain, help="what it does")
    _add_attempts(add, is_workflow=True)
    _add_starts(add)
    _add_flow(add)
    _add_eviction(add)
    return parser


Add = Callable[..., Any]


def _adder(parser: Arguments) -> Add:
    def add(*flags: str, **how: Any) -> None:
        parser.add_argument(*flags, default=argparse.SUPPRESS, **how)

    return add


def _add_attempts(add: Add, *, is_workflow: bool = False) -> None:
    add("--retries", type=int, metavar="N", help="further attempts after a failure (0)")
    add("--backoff-factor", type=float, metavar="F", help="seconds before attempt n+1 are F to the power of n")
    add("--backoff-max-seconds", type=float, metavar="S", help="at most so many seconds between attempts")
    if not is_workflow:
        add(
            "--execution-timeout",
            type=seconds_or_text,
            metavar="D",
            help="how long an attempt may work, waits not counted: 90s, 10m",
        )
    add("--schedule-timeout", type=seconds_or_text, metavar="D", help="how long a run may stand in the queue")
    add("--deadline", type=seconds_or_text, metavar="D", help="after its creation; then a run is cancelled")
    add("--cancel-grace", type=seconds_or_text, metavar="D", help="how long a cancelled run may clean up (30s)")
    add("--on-exhausted", metavar="FATE", help="fail (the default), or park: a run whose retries ran out waits for a person")
    add("--priority", type=int, metavar="N", dest="default_priority", help="1 (low, the default), 2 or 3 (high)")
    add("--metadata", metavar="JSON", dest="default_additional_metadata", help="an object that every run carries")


def _add_starts(add: Add) -> None:
    add(
        "--on-events",
        metavar="KEY",
        action="append",
        type=plain,
        help="events that start a run, * for any characters; repeatable",
    )
    add(
        "--default-filter",
        metavar="CEL|JSON",
        action="append",
        dest="default_filters",
        help='which of those events do: "input.total > 100"; repeatable, one that agrees is enough',
    )
    add("--cron", metavar="CRON|JSON", action="append", dest="on_crons", help='when a run starts: "0 9 * * *"; repeatable')
    add("--timezone", metavar="ZONE", type=plain, help="of the crons: Europe/Rome (UTC)")
    add("--catch-up", metavar="WHICH", help="what becomes of ticks that nobody was there for: skip (the default), last or all")


def _add_flow(add: Add) -> None:
    add(
        "--concurrency",
        metavar="N|CEL=N|JSON",
        action="append",
        help='so many runs at once: 2, or for each value "input.customer=2"; repeatable',
    )
    add(
        "--rate-limit",
        metavar="KEY[=UNITS]|JSON",
        action="append",
        dest="rate_limits",
        help="what an attempt uses of a limit that durable.rate_limits.put has set: api, api=2; repeatable",
    )
    add("--idempotency", metavar="CEL|JSON", help='one run for each value while it has not ended: "input.order"')
    add("--idempotency-ttl", metavar="D", help="for so long after the first run instead, whatever became of it; never: for good")


def _add_eviction(add: Add) -> None:
    add("--eviction-ttl", metavar="D", help="how long a waiting run keeps its slot (15m); never: until another needs it")
    add("--eviction-priority", type=int, metavar="N", help="runs with the lowest give up their slots first (0)")
    add("--no-capacity-eviction", action="store_true", help="keep the slot though another run needs it")


# ---------------------------------------------------------------- what was given


def options_of(kind: Kind, given: Mapping[str, Any], namespace: Mapping[str, Any], *, form: str) -> TaskOptions:
    """Give the options that a line's words stand for.

    Args:
        form: the magic as people write it, for errors.

    Raises:
        UsageError, DeclarationError: one that cannot work.
    """
    options = {name: value for name, value in given.items() if name not in (*CRON, *EVICTION, "idempotency_ttl")}
    if "default_additional_metadata" in options:
        options["default_additional_metadata"] = metadata_of(options["default_additional_metadata"], namespace)
    if "resources" in options:
        options["resources"] = value_of(options["resources"], namespace)
    for name, short in SHORT.items():
        if name in options:
            options[name] = [_made(name, word, short) for word in options[name]]
    if any(name in given for name in CRON):
        options["on_crons"] = _with_zones(options.get("on_crons"), given)
    idempotency = _idempotency(given)
    if idempotency is not None:
        options["idempotency"] = idempotency
    if any(name in given for name in EVICTION):
        options["eviction_policy"] = _eviction(given)
    return make_options(kind, options, form=form)


def _concurrency(word: str) -> flow.ConcurrencyExpression:
    expression, equals, most = word.rpartition("=")
    if not (most.strip().isascii() and most.strip().isdecimal()) or (
        equals and expression.rstrip().endswith(("=", "!", "<", ">"))
    ):
        raise UsageError(f'--concurrency {brief(word, 60)} is no limit: write 2, "input.customer=2", or JSON.')
    return flow.ConcurrencyExpression(expression.strip(), int(most))


def _rate_limit(word: str) -> flow.RateLimit:
    key, equals, units = word.rpartition("=")
    if not equals:
        return flow.RateLimit(static_key=word)
    return flow.RateLimit(static_key=key, units=int(units) if units.isascii() and units.isdecimal() else units)


SHORT: Mapping[str, Callable[[str], Any]] = {
    "concurrency": _concurrency,
    "rate_limits": _rate_limit,
    "default_filters": flow.DefaultFilter,
    "on_crons": flow.Cron,
}
LONG: Mapping[str, Callable[..., Any]] = {
    "concurrency": flow.ConcurrencyExpression,
    "rate_limits": flow.RateLimit,
    "default_filters": flow.DefaultFilter,
    "on_crons": flow.Cron,
    "idempotency": lambda **fields: flow.normal_idempotency(fields),
}


def _made(name: str, word: str, short: Callable[[str], Any]) -> Any:
    """Make what a word stands for: of an object by its fields, of any other by its short form."""
    if not word.lstrip().startswith("{"):
        return short(plain_or_error(word))
    try:
        return LONG[name](**json.loads(word))
    except (TypeError, ValueError, RecursionError) as error:  # a DeclarationError says by itself what is wrong
        raise UsageError(f"--{name.replace('_', '-')} {brief(word, 80)} cannot be read ({brief(str(error))}).") from None


def plain_or_error(word: str) -> str:
    """Give a word without the quotes that it may stand in."""
    try:
        return plain(word)
    except argparse.ArgumentTypeError as error:
        raise UsageError(
            f"The option's value {brief(word, 60)} says nothing ({error}): leave the option out, or say more."
        ) from None


def _with_zones(crons: list[flow.Cron] | None, given: Mapping[str, Any]) -> list[flow.Cron]:
    if not crons:
        raise UsageError('--timezone and --catch-up say more of a --cron: write --cron "0 9 * * *" too.')
    zone, catch_up = given.get("timezone"), given.get("catch_up")
    return [flow.Cron(cron.expression, zone or cron.timezone, catch_up or cron.catch_up, cron.input) for cron in crons]


def _idempotency(given: Mapping[str, Any]) -> flow.Idempotency | None:
    word, ttl = given.get("idempotency"), given.get("idempotency_ttl")
    if word is None:
        if ttl is not None:
            raise UsageError('--idempotency-ttl says more of --idempotency: write --idempotency "input.order" too.')
        return None
    made: flow.Idempotency
    if ttl is None:
        made = _made("idempotency", word, flow.StatusBasedIdempotencyConfig)
    else:
        seconds = None if ttl == NEVER else parse_duration(seconds_or_text(ttl), of="--idempotency-ttl")
        made = flow.TTLBasedIdempotencyConfig(plain_or_error(word), seconds)
    return made


def _eviction(given: Mapping[str, Any]) -> EvictionPolicy:
    ttl, policy = given.get("eviction_ttl"), EvictionPolicy()
    return EvictionPolicy(
        ttl=policy.ttl if ttl is None else None if ttl == NEVER else parse_duration(seconds_or_text(ttl), of="--eviction-ttl"),
        allow_capacity_eviction=not given.get("no_capacity_eviction", False),
        priority=given.get("eviction_priority", policy.priority),
    )
