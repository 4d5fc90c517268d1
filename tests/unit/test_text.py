"""The text views: what they say of a run, and that data can neither style nor control what shows it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from durable_nb.log.reads import CheckpointView, WaitView
from durable_nb.log.records import Failure, RunView
from durable_nb.views.still import bundle
from durable_nb.views.text import LogState, RunDetail, log_line, run_history, run_summary, runs_table
from durable_nb.views.words import BY_STATUS, PARKED, WAITING, brief, duration, state_of, visible

HOSTILE = [
    "\x1b[2J\x1b[31mred",
    "\x1b]8;;http://evil\x07link\x1b]8;;\x07",
    "a\rb\x08c",
    "\u202egnp.exe",
    "\u2066hidden\u2069",
    "zero\u200bwidth",
    "line\u2028break",
    "[red]markup[/red] [link=javascript:alert(1)]x[/link]",
    "<img src=x onerror=alert(1)></pre></script>",
    "{code} {foreground} {0}",
    "lone \ud800 surrogate",
    "null\x00byte",
]


def run(**changes: Any) -> RunView:
    fields: dict[str, Any] = {
        "number": 1, "id": "01ABC", "task": "clean", "kind": "durable_task", "version": "ab12", "status": "RUNNING",
        "is_evicted": False, "blocked_reason": None, "key": None, "parent": None, "retry_count": 0, "invocation_count": 1,
        "branch": 1, "owner": "w", "ready_at": None, "created_at": 1000.0, "started_at": 1000.0, "finished_at": None,
        "input": "{}", "output": None, "error": None,
    }  # fmt: skip
    return RunView(**{**fields, **changes})


def checkpoint(node: int, **changes: Any) -> CheckpointView:
    view = CheckpointView(1, node, "child", "score {}", 3, None, 1000.0, node, 1000.5, False, False)
    return replace(view, **changes)


def event(**changes: Any) -> WaitView:
    return replace(WaitView(5, "event", "approve:sales", None, "approve:sales", None, None, None), **changes)


def detail(view: RunView, **changes: Any) -> RunDetail:
    return RunDetail(**{"run": view, "checkpoints": [], "children": [], "waits": [], "now": 1010.0, **changes})


def text(renderable: Any) -> str:
    return bundle(renderable)["text/plain"]


# ---------------------------------------------------------------- words


def test_every_state_has_a_symbol_and_a_word_of_its_own() -> None:
    states = [*BY_STATUS.values(), WAITING, PARKED]
    assert len({state.symbol for state in states}) == len({state.word for state in states}) == len(states)


@pytest.mark.parametrize(
    ("changes", "waits", "word"),
    [
        ({"status": "QUEUED", "ready_at": 1.0}, False, "queued"),
        ({}, False, "running"),
        ({}, True, "waiting"),
        ({"is_evicted": True}, True, "waiting"),
        ({"is_evicted": True, "ready_at": 1.0}, False, "queued"),
        ({"blocked_reason": "it diverged"}, True, "parked"),
        ({"status": "COMPLETED"}, False, "completed"),
        ({"status": "FAILED", "blocked_reason": "long ago"}, False, "failed"),
        ({"status": "CANCELLED"}, False, "cancelled"),
    ],
)
def test_the_state_of_a_run(changes: dict[str, Any], waits: bool, word: str) -> None:
    assert state_of(run(**changes), waits=waits).word == word


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_is_not_seen_or_is_obeyed_is_written_out(hostile: str) -> None:
    shown = visible(hostile)
    assert all(character.isprintable() for character in shown)
    assert shown.encode()


def test_letters_of_every_script_and_emoji_stay_as_they_are() -> None:
    for kept in ("Grüße", "数据", "می‌خواهم", "👩‍🔬", "שלום"):
        assert visible(kept) == kept
    assert visible("a\n\tb\x07", lines=True) == "a\n    b\\x07"
    assert brief("x" * 1000, 10) == "xxxxxxxxx…"


def test_durations_have_two_units_at_most() -> None:
    assert [duration(seconds) for seconds in (-1, 0, 59.94, 60, 3600, 86_340, 86_400)] == [
        "0 ms", "0 ms", "59.9 s", "1 min", "1 h", "23 h 59 min", "1 d",
    ]  # fmt: skip


# ---------------------------------------------------------------- a run


def test_a_summary_tells_state_children_and_waits() -> None:
    waits = [event(expression="input.ok"), WaitView(5, "sleep", "sleep:1d", 1010.0 + 86_280, None, None, None, None)]
    children = [("score", "COMPLETED", 12), ("score", "RUNNING", 3), ("load", "FAILED", 1)]
    lines = text(run_summary(detail(run(), waits=waits, children=children))).splitlines()
    assert lines[0] == "◌ waiting clean #1 01ABC for 10.0 s"
    assert "children score: ✓ 12 completed, ● 3 running" in lines[1]
    assert "children load: ✗ 1 failed" in lines[2]
    assert "◌ waits for `approve:sales` if input.ok or sleep:1d (23 h 58 min left)" in lines[3]


def test_tasks_of_a_workflow_that_were_not_run_are_told_with_the_reason() -> None:
    skip = checkpoint(3, kind="skip", ask="maps: its skip_if is true", line=None)
    cancel = checkpoint(4, kind="cancel", ask="b: 'a' was cancelled", line=None)
    plan = checkpoint(1, kind="plan", ask="plan of etl: a, b, maps", line=None)
    shown = text(run_summary(detail(run(), checkpoints=[plan, skip, cancel])))
    assert "↷ skipped maps: its skip_if is true" in shown
    assert "⊘ cancelled b: 'a' was cancelled" in shown
    assert "plan" not in shown
    history = text(run_history(detail(run(), checkpoints=[plan, skip, cancel])))
    assert "1 ✓ plan of etl: a, b, maps" in history
    assert "3 ↷ skip maps: its skip_if is true · skipped after 500 ms" in history
    many = [checkpoint(node, kind="skip", ask=f"t{node}: its skip_if is true") for node in range(2, 12)]
    assert "↷ 10 skipped" in text(run_summary(detail(run(), checkpoints=[*many, cancel])))


def test_a_question_is_told_as_one() -> None:
    asked = event(kind="ask", name="Publish <b>?\x1b", key=None)
    assert "◌ waits for an answer to “Publish <b>?\\x1b”" in text(run_summary(detail(run(), waits=[asked])))
    kinds = {"ask": "ask Publish?", "take": "take m", "step": "step fetch"}
    history = [checkpoint(node, kind=kind, ask=ask) for node, (kind, ask) in enumerate(kinds.items(), start=1)]
    lines = text(run_history(detail(run(), checkpoints=history)))
    assert all(words in lines for words in ("1 ✓ ask Publish?", "2 ✓ take m", "3 ✓ step fetch"))


def test_a_history_folds_what_is_alike_and_keeps_what_differs() -> None:
    many = [checkpoint(node) for node in range(2, 42)]
    many[3] = replace(many[3], is_failed=True)
    many[4] = replace(many[4], seq=None, recorded_at=None)
    around = [
        checkpoint(1, kind="sleep", ask="sleep 5s"),
        *many,
        checkpoint(42, kind="event", ask="event go", seq=None, recorded_at=None),
    ]
    shown = text(run_history(detail(run(), checkpoints=around)))
    assert "1 ✓ sleep 5s · line 3 · recorded after 500 ms" in shown
    assert "2–41 child score: ✓ 38 recorded, ✗ 1 failed, ◌ 1 open" in shown
    assert "42 ◌ event go · line 3 · open" in shown
    assert len(shown.splitlines()) < 10


def test_a_history_shows_outcome_and_trace() -> None:
    failure = Failure("ValueError", "no good", 'Traceback:\n  File "<durable clean>", line 3\n', "01ABC")
    shown = text(run_history(detail(run(status="FAILED", error=failure, finished_at=1003.2, retry_count=2))))
    assert "✗ failed clean #1 01ABC in 3.2 s" in shown
    assert "attempt 3" in shown
    assert "ValueError: no good" in shown
    assert 'File "<durable clean>", line 3' in shown
    parked = text(run_history(detail(run(blocked_reason="It diverged: checkpoint 3"))))
    assert "⏸ It diverged: checkpoint 3" in parked
    assert "%durable retake 01ABC" in parked
    assert 'output {"rows":1}' in text(run_summary(detail(run(status="COMPLETED", output='{"rows":1}'))))


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_data_is_shown_as_text_in_every_field(hostile: str) -> None:
    view = run(
        task=hostile, key=hostile, version=hostile, input=hostile, metadata=hostile, home=hostile, status="FAILED",
        error=Failure(hostile, hostile, hostile), finished_at=1001.0,
    )  # fmt: skip
    waits = [event(key=hostile, scope=hostile, expression=hostile, filter_error=hostile), event(node=6, key=None, name=hostile)]
    checkpoints = [checkpoint(1, kind=hostile, ask=hostile), *[checkpoint(node, ask=hostile) for node in range(2, 12)]]
    whole = detail(view, waits=waits, checkpoints=checkpoints, children=[(hostile, "COMPLETED", 3)])
    parked = detail(run(task=hostile, blocked_reason=hostile, output=hostile), waits=waits)
    for renderable in (
        run_history(whole),
        run_summary(whole),
        run_history(parked),
        runs_table([(view, waits), (parked.run, waits)], 1010.0),
    ):
        shown = bundle(renderable)
        assert all(character.isprintable() or character == "\n" for character in shown["text/plain"])
        page = shown["text/html"]
        assert "<img" not in page
        assert "<a " not in page
        assert page.count("</pre>") == 1
        assert {part.split(">")[0].split(" ")[0] for part in page.split("<")[1:]} <= {"pre", "/pre", "span", "/span"}
    if hostile.startswith("[red]"):
        assert "[red]markup[/red]" in text(run_history(whole)), "markup is data"


# ---------------------------------------------------------------- many runs, and the log


def test_the_table_tells_what_runs_wait_for_and_how_they_ended() -> None:
    rows = [
        (run(number=3), [event(), event(node=6)]),
        (run(number=2, status="COMPLETED", output="42", input="21", finished_at=1000.04), []),
        (run(number=1, status="QUEUED", ready_at=1015.0, started_at=None, retry_count=1), []),
    ]
    lines = text(runs_table(rows, 1010.0)).splitlines()
    assert "◌ waits for `approve:sales`, and 1 more" in lines[1]
    assert "✓ completed" in lines[2]
    assert "40 ms" in lines[2]
    assert "21 → 42" in lines[2]
    assert "… queued (tries again in 5.0 s)" in lines[3]


def test_the_line_of_a_log() -> None:
    state = LogState(path=Path("a\x1b.db"), going=1, waiting=2, blocked=1, lacking=[("x", 1), ("y", 2)], untrusted=["z"])
    assert log_line(state) == (
        "durable_nb: log a\\x1b.db: 1 run goes on, 2 wait for an event, 1 is parked, "
        "3 lack their definition (run the cell of x, y), "
        "not signed by you, so not restored: z (run the cell, or `%durable trust`)."
    )
