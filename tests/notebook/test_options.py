"""Options of cells: those of the decorators, in the same words; a bad one is one sentence, and nothing was defined."""

from __future__ import annotations

from datetime import timedelta

import pytest

from durable_nb.client import Durable
from durable_nb.tasks.flow import (
    ConcurrencyExpression,
    Cron,
    DefaultFilter,
    RateLimit,
    StatusBasedIdempotencyConfig,
    TTLBasedIdempotencyConfig,
)
from durable_nb.tasks.options import EvictionPolicy, TaskOptions
from tests.notebook.helpers import Shell, wait_until

BODY = "\ndef f(input, ctx):\n    return input\n"


@pytest.mark.parametrize(
    ("line", "options"),
    [
        (
            "--retries 3 --backoff-factor 2 --backoff-max-seconds 9",
            TaskOptions(retries=3, backoff_factor=2, backoff_max_seconds=9),
        ),
        ("--execution-timeout 10m --schedule-timeout 5", TaskOptions(execution_timeout=600, schedule_timeout=5)),
        (
            "--deadline 1d --cancel-grace 2m --on-exhausted park",
            TaskOptions(deadline=86400, cancel_grace=120, on_exhausted="park"),
        ),
        ('--metadata {"team": "a b"}', TaskOptions(default_additional_metadata={"team": "a b"})),
        ("--metadata $shared", TaskOptions(default_additional_metadata={"x": 1})),
        ("--concurrency 2", TaskOptions(concurrency=(ConcurrencyExpression("", 2),))),
        (
            '--concurrency "input.customer=2" --concurrency \'input.kind == "a" ? 1 : 2=3\'',
            TaskOptions(
                concurrency=(ConcurrencyExpression("input.customer", 2), ConcurrencyExpression('input.kind == "a" ? 1 : 2', 3))
            ),
        ),
        (
            '--concurrency={"max_runs": 2, "limit_strategy": "CANCEL_NEWEST"}',
            TaskOptions(concurrency=(ConcurrencyExpression("", 2, "CANCEL_NEWEST"),)),  # type: ignore[arg-type]
        ),
        (
            '--rate-limit api --rate-limit "mail=2" --rate-limit {"dynamic_key": "input.user", "limit": 10}',
            TaskOptions(
                rate_limits=(
                    RateLimit(static_key="api"),
                    RateLimit(static_key="mail", units=2),
                    RateLimit(dynamic_key="input.user", limit=10),
                )
            ),
        ),
        ("--idempotency input.order", TaskOptions(idempotency=StatusBasedIdempotencyConfig("input.order"))),
        (
            "--idempotency input.order --idempotency-ttl 1h",
            TaskOptions(idempotency=TTLBasedIdempotencyConfig("input.order", timedelta(hours=1))),
        ),
        (
            "--idempotency input.order --idempotency-ttl never",
            TaskOptions(idempotency=TTLBasedIdempotencyConfig("input.order", None)),
        ),
        ("--on-events order:created --on-events 'user:*'", TaskOptions(on_events=("order:created", "user:*"))),
        (
            '--on-events a --default-filter "input.total > 100"',
            TaskOptions(on_events=("a",), default_filters=(DefaultFilter("input.total > 100"),)),
        ),
        (
            '--cron "0 9 * * *" --timezone Europe/Rome --catch-up last',
            TaskOptions(on_crons=(Cron("0 9 * * *", "Europe/Rome", "last"),)),
        ),
        ('--cron {"expression": "0 9 * * *", "input": 5}', TaskOptions(on_crons=(Cron("0 9 * * *", input=5),))),
    ],
)
def test_the_words_of_the_line_are_the_options_of_the_decorator(shell: Shell, line: str, options: TaskOptions) -> None:
    shell.names["shared"] = {"x": 1}
    shell.cell(f"%%task {line}{BODY}")
    assert shell.names["f"].options == options


def test_eviction_name_and_description(shell: Shell) -> None:
    body = "\nasync def f(input, ctx):\n    return input\n"
    shell.cell(
        "%%durable_task --eviction-ttl 5s --eviction-priority 3 --no-capacity-eviction "
        f'--name "by night" --description "counts"{body}'
    )
    task = shell.names["f"]
    assert task.options.eviction_policy == EvictionPolicy(timedelta(seconds=5), False, 3)
    assert (task.name, task.description) == ("by night", "counts")
    assert shell.cell('%durable run "by night" 4 --wait').result == 4
    shell.cell("%unload_ext durable_nb")
    shell.load()
    durable: Durable = shell.names["durable"]
    assert (durable.tasks["by night"].description, durable.tasks["by night"].options) == ("counts", task.options)
    shell.cell(f"%%durable_task --eviction-ttl never{body}")
    assert shell.names["f"].options.eviction_policy == EvictionPolicy(None)


def test_an_event_starts_what_listens_to_it(shell: Shell) -> None:
    shell.cell(f'%%task --on-events "order:*" --default-filter "input.total > 100"{BODY}')
    durable: Durable = shell.names["durable"]
    wait_until(lambda: "started 1 run" in shell.cell('%emit order:new {"total": 500}').text, what="the start")
    assert "started" not in shell.cell('%emit order:new {"total": 5}').text
    assert all(run.input == '{"total":500}' for run in durable.runs.list())


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("--concurrency 0", "max_runs=0: give a whole number, 1 or more."),
        ("--concurrency many", '--concurrency many is no limit: write 2, "input.customer=2", or JSON.'),
        ('--concurrency "input.a == 2"', "is no limit"),
        ('--concurrency {"max_run": 2}', "cannot be read"),
        ('--concurrency "input.=2"', "The option concurrency of task 'f' cannot work."),
        ("--concurrency 2 --concurrency 3", "concurrency names one expression twice"),
        ("--rate-limit api=0", "units=0: give a whole number"),
        ('--rate-limit ""', "it is empty"),
        ('--rate-limit {"limit": 3}', "RateLimit takes either static_key or dynamic_key"),
        ("--rate-limit {", "is not JSON"),
        ('--cron "0 9 * *"', "The cron expression '0 9 * *' cannot be read"),
        ("--timezone Europe/Rome", "say more of a --cron"),
        ('--cron "0 9 * * *" --timezone Mars', "timezone='Mars' is unknown here"),
        ('--cron "0 9 * * *" --catch-up some', "catch_up='some' is unknown: give 'skip', 'last' or 'all'."),
        ("--idempotency-ttl 1h", "--idempotency-ttl says more of --idempotency"),
        ("--idempotency input.a --idempotency-ttl soon", "--idempotency-ttl='soon' is no duration"),
        ("--idempotency \x00", "idempotency"),
        ("--on-exhausted cry", "on_exhausted='cry' is unknown: give 'fail' or 'park'."),
        ("--deadline -5s", "deadline"),
        ("--metadata [1]", "--metadata [1] is no JSON object"),
        ("--priority 7", "default_priority=7 is unknown: give 1 (low), 2 or 3 (high)."),
        ("--eviction-ttl 5s", "Unrecognized arguments: --eviction-ttl"),
        ('--default-filter "input.("', "The option default_filters of task 'f' cannot work."),
    ],
)
def test_a_bad_option_is_one_sentence_and_defines_nothing(shell: Shell, line: str, sentence: str) -> None:
    assert sentence in shell.usage_error(f"%%task {line}{BODY}")
    durable: Durable = shell.names["durable"]
    assert list(durable.tasks) == []
    assert "f" not in shell.names
