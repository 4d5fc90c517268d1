"""What is declared of flow control is what a definition restored from the log has: it survives JSON."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import (
    ConcurrencyExpression,
    ConcurrencyLimitStrategy,
    Cron,
    DefaultFilter,
    EvictionPolicy,
    RateLimit,
    RateLimitDuration,
    StatusBasedIdempotencyConfig,
    TTLBasedIdempotencyConfig,
)
from durable_nb.errors import DeclarationError
from durable_nb.log.triggers import fits
from durable_nb.tasks.flow import plain
from durable_nb.tasks.options import make_options, options_from_json, options_to_json

OPTIONS: list[dict[str, Any]] = [
    {},
    {"concurrency": 3},
    {
        "concurrency": [
            ConcurrencyExpression("input.a", 2, ConcurrencyLimitStrategy.CANCEL_NEWEST),
            ConcurrencyExpression("input.b"),
        ]
    },
    {
        "rate_limits": [
            RateLimit(static_key="x"),
            RateLimit(dynamic_key="input.u", units="input.n", limit=9, duration=RateLimitDuration.DAY),
        ]
    },
    {"idempotency": TTLBasedIdempotencyConfig("input.id", timedelta(seconds=90.5))},
    {"idempotency": TTLBasedIdempotencyConfig("input.id", None)},
    {"idempotency": StatusBasedIdempotencyConfig("input.id", timedelta(days=1), ("RUNNING",))},
    {"on_events": ["a:*", "b"], "default_filters": [DefaultFilter("input.a > 1", "s", {"who": ["Anna", None]})]},
    {"on_crons": ["0 9 * * *", Cron("*/5 * * * * *", timezone="Europe/Rome", catch_up="all", input={"a": [1]})]},
    {"eviction_policy": EvictionPolicy(ttl=timedelta(seconds=3), priority=2)},
]


@pytest.mark.parametrize("given", OPTIONS)
def test_options_survive_json(given: dict[str, Any]) -> None:
    options = make_options("durable_task", given)
    assert options_from_json(json.loads(json.dumps(options_to_json(options), default=plain))) == options


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"concurrency": "3"}, "concurrency='3': give a number, a ConcurrencyExpression, or a list of them"),
        ({"concurrency": True}, "concurrency=True: give a number"),
        ({"rate_limits": [3]}, r"rate_limits=\[3\]: give a list of RateLimit"),
        ({"on_crons": [7]}, "give a list of cron expressions"),
        ({"on_crons": ["9 o'clock"]}, "The cron expression '9 o'clock' cannot be read"),
        ({"on_events": [None]}, "on_events holds None"),
    ],
)
def test_what_is_no_option_is_refused_with_the_form_that_it_has(given: dict[str, Any], words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        make_options("task", given)


@pytest.mark.parametrize("name", ["ConcurrencyExpression", "RateLimit", "Cron", "DefaultFilter"])
def test_text_that_the_log_cannot_hold_is_refused(name: str) -> None:
    half = "\ud800"
    make: dict[str, Any] = {
        "ConcurrencyExpression": lambda: ConcurrencyExpression(half),
        "RateLimit": lambda: RateLimit(static_key=half),
        "Cron": lambda: Cron(half),
        "DefaultFilter": lambda: DefaultFilter("true", half),
    }
    with pytest.raises(DeclarationError):
        make[name]()


def test_a_pattern_is_text_but_for_its_stars() -> None:
    assert fits("a.*[b]?", "a.xx[b]?")
    assert not fits("a.*[b]?", "a.xxb")
    assert fits("**", "")
    assert fits("a*c", "a\nc")
