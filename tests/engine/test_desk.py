"""What the inbox and the table of runs show, and what is done there: without a page, on a real log."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from durable_nb import Durable, DurableContext
from durable_nb.engine.clock import SystemClock
from durable_nb.errors import ArgumentError, InputValidationError, UnknownRunError
from durable_nb.log import listing
from durable_nb.log.listing import Query
from durable_nb.views.asking import answer_actions
from durable_nb.views.inbox_view import InboxSource, InboxView
from durable_nb.views.runs_view import RunsSource, RunsView, base_query, query_of
from tests.engine.helpers import Bench, closing_log, wait_until

HOSTILE = "<img src=x onerror=alert(1)>\u202e\x1b[31m'; DROP TABLE run;--"


@pytest.fixture
def durable(bench: Bench) -> Durable:
    """An app object on the real clock, which views show."""
    return bench.durable(clock=SystemClock())


def read(bench: Bench, source: Any) -> dict[str, Any]:
    with closing_log(bench.path) as connection:
        return json.loads(json.dumps(source.read(connection)))  # type: ignore[no-any-return]


def some_runs(durable: Durable) -> None:
    @durable.task()
    def double(input: dict[str, Any], ctx: Any) -> int:
        if input["n"] == 3:
            raise ValueError(f"no {HOSTILE}")
        return 2 * int(input["n"])

    @durable.durable_task()
    async def waits(input: dict[str, Any], ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event(f"paid{HOSTILE}")

    for n in range(5):
        double.run_many(
            [double.create_bulk_run_item(input={"n": n}, additional_metadata={"customer": n % 2, "ok": True, "who": HOSTILE})],
            return_exceptions=True,
        )
    waits.run({"n": 9}, wait_for_result=False)
    wait_until(lambda: durable.runs.get_details("#6").waits)
    wait_until(lambda: durable.runs.get("#6").ready_at is None)


# ---------------------------------------------------------------- the inbox


def test_the_inbox_shows_open_questions_and_what_became_of_others(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def ask(question: str, ctx: DurableContext) -> bool:
        return bool(await ctx.aio_ask(question, bool, timeout=3600, assignees=["ada"]))

    source = InboxSource()
    refs = [ask.run(question, wait_for_result=False) for question in ("first", HOSTILE, "x" * 10_000)]
    wait_until(lambda: len(durable.inbox.list()) == 3)
    items = read(bench, source)
    [first, hostile, long] = [items[f"open:{name}"] for name in items["order"]]
    assert (first["question"], first["assignees"], first["schema"]) == ("first", ["ada"], {"type": "boolean"})
    assert first["due_at"] - first["asked_at"] == pytest.approx(3600)
    assert (items["count"], items["done"]) == (3, [])
    assert "\\u202e\\x1b[31m" in hostile["question"]
    assert len(long["question"]) < 5_000
    do = answer_actions(durable)
    do["answer"](question=first["id"], text="true", by="ada", reason="because")
    refs[0].result()
    durable.runs.cancel(refs[1])
    wait_until(lambda: len(durable.inbox.list()) == 1)
    items = read(bench, source)
    assert [items[f"done:{name}"]["status"] for name in sorted(items["done"])] == ["answered", "withdrawn"]
    answered = items[f"done:{first['id']}"]
    assert (answered["answer"], answered["by"], answered["reason"]) == ("true", "ada", "because")
    assert read(bench, InboxSource("bob"))["order"] == []


def test_a_question_that_was_shown_is_told_of_though_newer_ones_have_come(
    bench: Bench, durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("durable_nb.views.inbox_view.RECENT", 1)

    @durable.durable_task()
    async def ask(question: str, ctx: DurableContext) -> bool:
        return bool(await ctx.aio_ask(question, bool))

    source = InboxSource()
    for number in range(3):
        ask.run(str(number), wait_for_result=False)
    wait_until(lambda: len(durable.inbox.list()) == 3)
    old = read(bench, source)["order"][0]
    durable.inbox.answer(old, True)
    items = read(bench, source)
    assert items[f"done:{old}"]["status"] == "answered"
    assert read(bench, InboxSource())["done"] == []


def test_a_schema_too_large_for_a_form_is_left_out(bench: Bench, durable: Durable) -> None:
    from enum import Enum

    many = Enum("many", {f"name{number}": f"value{number}" * 10 for number in range(2000)})  # type: ignore[misc]

    @durable.durable_task()
    async def ask(input: Any, ctx: DurableContext) -> str:
        return str(await ctx.aio_ask("Which?", many))

    ask.run(wait_for_result=False)
    wait_until(durable.inbox.list)
    items = read(bench, InboxSource())
    assert items[f"open:{items['order'][0]}"]["schema"] is None
    assert len(json.dumps(items)) < 10_000


# ---------------------------------------------------------------- the table


@pytest.mark.parametrize(
    ("given", "numbers"),
    [
        ({}, [6, 5, 4, 3, 2, 1]),
        ({"limit": 2, "offset": 2}, [4, 3]),
        ({"status": ["FAILED"]}, [4]),
        ({"status": ["RUNNING", "FAILED"]}, [6, 4]),
        ({"task": "waits"}, [6]),
        ({"text": "DOUBLE"}, [5, 4, 3, 2, 1]),
        ({"text": '"n":3'}, [4]),
        ({"text": "onerror"}, [5, 4, 3, 2, 1]),
        ({"text": "100%_"}, []),
        ({"text": "customer=1"}, [4, 2]),
        ({"text": "customer=0 ok=true"}, [5, 3, 1]),
        ({"text": f'who="{HOSTILE}"', "limit": 1}, [5]),
        ({"text": "customer=1 double"}, [4, 2]),
        ({"upto": 3}, [3, 2, 1]),
        ({"within": 3600}, [6, 5, 4, 3, 2, 1]),
        ({"descending": False, "limit": 2}, [1, 2]),
        ({"order": "task", "descending": False}, [5, 4, 3, 2, 1, 6]),
        ({"order": "state", "descending": False, "limit": 2}, [5, 3]),
        ({"order": "started", "descending": False, "limit": 2}, [1, 2]),
    ],
)
def test_the_table_filters_orders_and_pages(bench: Bench, durable: Durable, given: dict[str, Any], numbers: list[int]) -> None:
    some_runs(durable)
    source = RunsSource(Query())
    source.choose(given)
    assert read(bench, source)["order"] == numbers


def test_a_row_says_what_the_log_knows_in_visible_characters(bench: Bench, durable: Durable) -> None:
    some_runs(durable)
    items = read(bench, RunsSource(Query()))
    assert (items["count"], items["newest"], items["tasks"]) == (6, 6, [["double", "double"], ["waits", "waits"]])
    waiting, failed, done = (items[f"run:{number}"] for number in (6, 4, 2))
    assert (waiting["state"], failed["state"], done["state"]) == ("waiting", "failed", "completed")
    assert (done["input"], done["result"], done["is_bad"]) == ('{"n":1}', "2", False)
    assert failed["is_bad"]
    assert "ValueError: no <img" in failed["result"]
    assert waiting["waits"][0]["due_at"] is None
    for text in (waiting["waits"][0]["words"], failed["result"], done["metadata"]):
        assert "\u202e" not in text
        assert "\x1b" not in text


def test_large_payloads_are_not_read_whole(bench: Bench, durable: Durable) -> None:
    @durable.task()
    def same(input: str, ctx: Any) -> str:
        return input

    same.run("ß" * 1_000_000)
    row = read(bench, RunsSource(Query()))["run:1"]
    assert row["input"].startswith('"ßß')
    assert row["input"].endswith("…")
    assert len(json.dumps(row)) < 3_000


def test_what_a_page_costs_is_bounded_however_long_the_log_is(
    bench: Bench, durable: Durable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted in SQLite's own steps, since no test asserts a time: the whole log would be hundreds of times as many."""
    some_runs(durable)
    durable.close()
    bench.is_tampered = True
    monkeypatch.setattr(listing, "MOST", 200)
    monkeypatch.setattr(listing, "SEARCHED", 500)
    with closing_log(bench.path) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(run)") if row[1] not in ("number", "id", "key")]
        rest = ", ".join(columns)
        connection.execute(
            f"""INSERT INTO run (number, id, {rest})
                WITH RECURSIVE n (i) AS (SELECT 7 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
                SELECT i, 'copy' || i, {rest} FROM n JOIN run ON run.number = 1 + i % 5"""
        )
        steps = count_steps(connection)
        whole = steps(lambda: connection.execute("SELECT count(input) FROM run").fetchone())
        queries: list[dict[str, Any]] = [
            {},
            {"task": "double"},
            {"text": "nowhere"},
            {"order": "took"},
            {"order": "key"},
            {"offset": 100},
            {"text": "onerror"},
        ]
        for given in queries:
            query = query_of(Query(), given)
            assert steps(lambda query=query: listing.page_of(connection, query, now=0.0)) < whole / 3, given  # type: ignore[misc]
        assert listing.page_of(connection, Query(), now=0.0).count == 201
        assert listing.count_by_status(connection, Query(upto=29_999))["FAILED"] == 6000


def count_steps(connection: sqlite3.Connection) -> Callable[[Callable[[], object]], int]:
    counted = [0]

    def step() -> int:
        counted[0] += 1
        return 0

    def steps(work: Callable[[], object]) -> int:
        counted[0] = 0
        connection.set_progress_handler(step, 100)
        work()
        connection.set_progress_handler(None, 0)
        return counted[0]

    return steps


def test_bulk_actions_do_what_was_seen_and_no_more(durable: Durable) -> None:
    some_runs(durable)
    waits = durable.tasks["waits"]
    view = RunsView(durable, Query())
    do = view.actions()
    try:
        do["choose"](query={"task": "waits"})
        later = waits.run({"n": 10}, wait_for_result=False)
        assert do["weigh"](runs=None, upto=6) == {"all": 1, "active": 1}
        assert do["cancel"](runs=None, upto=6) == 1
        wait_until(lambda: durable.runs.get("#6").status == "CANCELLED")
        assert not durable.runs.get(later).is_ended
        failed = durable.runs.get("#4").id
        assert do["weigh"](runs=[failed, later.workflow_run_id], upto=None) == {"all": 2, "active": 1}
        assert do["replay"](runs=[failed], upto=None) == 1
        wait_until(lambda: durable.runs.get("#4").retry_count == 1)
        opened = do["open_run"](run=failed)
        shown = view._opening._opened[opened]
        assert shown.run == failed and shown.comm is not None
        do["close_run"](model=opened)
        assert shown.comm is None
        with pytest.raises(UnknownRunError):
            do["open_run"](run="nowhere")
    finally:
        view.close()


@pytest.mark.parametrize("given", [{"status": ["GONE"]}, {"order": "number; DROP TABLE run"}])
def test_what_there_is_not_cannot_be_asked_for(given: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="there is no such thing"):
        query_of(Query(), given)
    assert query_of(Query(), {"limit": 10**9, "offset": -5, "text": "x" * 10**6}).limit == 200


# ---------------------------------------------------------------- as text


def test_outside_a_notebook_both_show_themselves_as_text(durable: Durable) -> None:
    assert repr(durable.inbox.view()) == "Nothing is asked of anybody now."
    assert repr(durable.runs.table()) == "No runs yet."
    some_runs(durable)
    shown = repr(durable.runs.table(metadata={"customer": 1, "ok": True}))
    assert [line.split()[0] for line in shown.splitlines()[1:] if line[0].isdecimal()] == ["4", "2"]
    assert "… and 4 more" in repr(durable.runs.table(limit=2))
    assert repr(durable.runs.table(task="nowhere")) == "No run fits."
    assert repr(durable.runs.table(since=datetime.now(UTC) + timedelta(days=1))) == "No run fits."
    bundle = durable.runs.table()._repr_mimebundle_()
    assert "<img" not in bundle["text/html"]
    assert "text/plain" in durable.inbox._repr_mimebundle_()
    with pytest.raises(InputValidationError, match="status='GONE' is unknown"):
        durable.runs.table(status="GONE")


def test_a_widget_has_a_still_picture_for_the_saved_notebook(durable: Durable) -> None:
    some_runs(durable)
    for view in (InboxView(durable), RunsView(durable, base_query(durable))):
        data, _ = view._repr_mimebundle_()
        assert set(data) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
        assert "<img" not in data["text/html"]
        view.close()
