"""What a run's view reads: all that is to be seen, what is folded, and no more than has changed."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from durable_nb import Durable, DurableContext
from durable_nb.errors import UnknownQuestionError
from durable_nb.log.connection import open_sqlite
from durable_nb.views import dags
from durable_nb.views.families import FOLD, PAGE, Family, course
from durable_nb.views.panels import LONGEST, panel_of
from durable_nb.views.pictures import picture
from durable_nb.views.run_view import RunView
from durable_nb.views.sources import RunSource
from durable_nb.views.words import brief

HOSTILE = "<img src=x onerror=alert(1)></script>\u202ecod.exe\x1b[31m javascript:alert(2) \"'&;"


@pytest.fixture
def log(tmp_path: Path) -> sqlite3.Connection:
    """A log with a run number 1, written by hand."""
    with Durable(tmp_path / "log.db"):
        pass
    connection = open_sqlite(tmp_path / "log.db")
    add(connection, 1, "parent", None, kind="durable_task", status="RUNNING")
    return connection


def add(connection: sqlite3.Connection, number: int, task: str, parent: int | None, **more: Any) -> None:
    values = {"kind": "task", "status": "COMPLETED", "started_at": 10.0 + number, "finished_at": 11.0 + number, **more}
    row = {"number": number, "id": f"R{number}", "task": task, "parent": parent, "input": "{}", "metadata": "{}", "priority": 1}
    row |= {"home": "", "event_floor": 0, "created_at": 10.0 + number, **values}
    names, places = ", ".join(row), ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO run ({names}) VALUES ({places})", row)


def end(connection: sqlite3.Connection, number: int, status: str) -> None:
    connection.execute("UPDATE run SET status = ?, finished_at = 99 WHERE number = ?", (status, number))
    connection.execute("INSERT INTO journal (run, at, kind) VALUES (?, 99, 'finished')", (number,))


def nodes(items: Any) -> list[int]:
    return sorted(item["number"] for key, item in items.items() if key.startswith("n/"))


def test_few_children_are_shown_one_by_one_and_many_are_folded(log: sqlite3.Connection) -> None:
    for number in range(2, 2 + FOLD):
        add(log, number, "score", 1, child_index=number - 2)
    source = RunSource("#1")
    items = source.read(log)
    assert nodes(items) == list(range(2, 2 + FOLD))
    assert not [key for key in items if key.startswith("g/")]
    for number in range(20, 60):
        add(log, number, "score", 1, status="FAILED" if number == 50 else "RUNNING", finished_at=None)
    items = source.read(log)
    assert nodes(items) == [50], "the one that failed is shown beside the fold"
    group = items["g/1/0"]
    assert (group["total"], group["counts"]) == (48, {"completed": FOLD, "failed": 1, "running": 39})
    source.unfold("1/0", 1)
    shown = nodes(source.read(log))
    assert len(shown) == PAGE
    assert shown[0] == 24
    source.unfold("1/0", None)
    end(log, 58, "COMPLETED")
    items = source.read(log)
    assert items["g/1/0"]["counts"] == {"completed": FOLD + 1, "failed": 1, "running": 38}
    assert items["run"]["children"] == 48


def test_a_look_reads_what_has_changed_and_not_what_is_there(log: sqlite3.Connection) -> None:
    log.execute("BEGIN")
    for number in range(2, 10_002):
        add(log, number, "score", 1, status="RUNNING", finished_at=None, child_index=number)
    log.execute("COMMIT")
    source = RunSource("#1")
    source.read(log)
    read: list[int] = []
    log.set_progress_handler(lambda: read.append(1), 1_000)
    source.read(log)
    at_rest = len(read)
    for number in range(2, 12):
        end(log, number, "COMPLETED")
    read.clear()
    items = source.read(log)
    log.set_progress_handler(None, 0)
    assert items["g/1/0"]["counts"] == {"completed": 10, "running": 9_990}
    assert at_rest <= 60, "thousand steps of SQLite's machine; one look at all children takes 500"
    assert len(read) <= at_rest + 10
    assert len(json.dumps(items)) < 20_000, "what a page gets of ten thousand children is bounded"


def test_a_course_keeps_its_peaks_and_its_pauses_in_few_points(log: sqlite3.Connection) -> None:
    for number in range(2, 1_002):
        began = 100.0 + (number % 50) * 0.001 if number < 900 else 5_000.0
        add(log, number, "score", 1, started_at=began, finished_at=began + 1, child_index=1)
    family = Family(1)
    family.look(log, set())
    found = course(family.rows.values())
    assert len(found["at"]) == len(found["n"]) <= 500
    assert max(found["n"]) == 898
    pause = found["n"].index(0)
    assert (found["at"][pause], found["at"][pause + 1]) == (pytest.approx(101.049), 5_000.0)
    assert (found["n"][-1], found["open"]) == (0, 0)


def test_grandchildren_are_read_when_they_are_asked_for(log: sqlite3.Connection) -> None:
    add(log, 2, "inner", 1, kind="durable_task", status="RUNNING")
    add(log, 3, "leaf", 2)
    source = RunSource("#1")
    items = source.read(log)
    assert nodes(items) == [2]
    assert (items["n/2"]["kids"], items["n/2"]["open"]) == (1, False)
    source.expand(2, True)
    items = source.read(log)
    assert nodes(items) == [2, 3]
    assert (items["n/3"]["parent"], items["n/2"]["open"]) == (2, True)
    source.expand(2, False)
    assert nodes(source.read(log)) == [2]


def test_hostile_words_are_text_in_the_picture_and_nowhere_markup(log: sqlite3.Connection) -> None:
    error = json.dumps({"type": HOSTILE, "message": HOSTILE, "trace": HOSTILE})
    for number in range(2, 5):
        add(log, number, HOSTILE + str(number), 1, status="FAILED", child_key=HOSTILE, error=error)
    log.execute(
        "INSERT INTO checkpoint (run, branch, node, kind, ask, fingerprint, asked_at) VALUES (1, 1, 1, 'event', ?, x'', 1)",
        (HOSTILE,),
    )
    columns = "run, branch, node, item, group_number, kind, name, key, scope, expression"
    wait = f"INSERT INTO wait ({columns}) VALUES (1, 1, 1, 0, 0, 'event', ?1, ?1, ?1, ?1)"
    log.execute(wait, (HOSTILE,))
    log.execute("INSERT INTO line (run, attempt, at, level, line, text) VALUES (1, 1, 1, ?, 1, ?)", (HOSTILE, HOSTILE))
    items = RunSource("#1").read(log)
    said = json.dumps(items, ensure_ascii=False)
    assert "\u202e" not in said
    assert "\x1b" not in json.loads(said)["l/1"][4]
    drawn = picture(items)
    parsed = Xml.fromstring(drawn)
    names = {element.tag.rpartition("}")[2] for element in parsed.iter()}
    assert names <= {"svg", "title", "style", "rect", "text", "path", "g"}
    assert not [name for element in parsed.iter() for name in element.attrib if name.startswith("on") or "href" in name]
    assert "&lt;img src=x" in drawn
    assert "\u202e" not in drawn
    assert "\x1b" not in drawn


def test_ten_megabytes_are_cut_before_they_are_sent(log: sqlite3.Connection) -> None:
    huge = "x" * 10_000_000
    add(log, 2, huge, 1, status="FAILED", child_key=huge, error=json.dumps({"type": "E", "message": huge, "trace": huge}))
    log.execute("INSERT INTO line (run, attempt, at, level, line, text) VALUES (1, 1, 1, 'INFO', 1, ?)", (huge,))
    log.execute("UPDATE run SET input = ?, output = ? WHERE number = 2", (json.dumps(huge), json.dumps([huge])))
    assert len(json.dumps(RunSource("#1").read(log))) < 20_000
    panel = panel_of(log, 2)
    assert len(json.dumps(panel)) < 8 * LONGEST
    assert panel["input"].endswith("characters more are not shown)")


def test_a_graph_is_given_to_dot_as_numbers_and_is_drawn_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = {HOSTILE: {"parents": [], "when": "parents"}, "b": {"parents": [HOSTILE], "when": "parents"}}
    assert HOSTILE not in dags.dot_source(((), (0,)))
    assert "n0 -> n1" in dags.dot_source(((), (0,)))
    dags.dot_positions.cache_clear()
    if shutil.which("dot"):
        places = dags.placed(plan, [])["at"]
        assert places[0][0] < places[1][0]

    def hang(*_: Any, **given: Any) -> Any:
        raise subprocess.TimeoutExpired("dot", given["timeout"])

    dags.dot_positions.cache_clear()
    monkeypatch.setattr(subprocess, "run", hang)
    began = time.monotonic()
    assert dags.placed(plan, []) == {
        "tasks": [[words, parents, "parents"] for words, parents in ((brief(HOSTILE, 80), []), ("b", [0]))],
        "at": None,
        "passed": {},
    }
    assert time.monotonic() - began < 1
    dags.dot_positions.cache_clear()


def test_a_run_that_works_is_seen_with_its_waits_checkpoints_and_lines(tmp_path: Path) -> None:
    with Durable(tmp_path / "log.db") as durable:

        @durable.durable_task()
        async def asker(input: dict[str, int], ctx: DurableContext) -> bool:
            ctx.log("I ask")
            await ctx.aio_memo(lambda: 1)
            return bool(await ctx.aio_ask("Publish?", bool, timeout="1h"))

        ref = asker.run({"n": 1}, wait_for_result=False)
        while not durable.inbox.list():
            time.sleep(0.01)
        source = RunSource(ref.workflow_run_id)
        with closing(open_sqlite(durable.path, query_only=True)) as connection:
            items = source.read(connection)
            assert items["run"]["state"] == "waiting"
            (wait,) = (item for key, item in items.items() if key.startswith("w/"))
            assert (wait["question"], wait["is_question"]) == ("Publish?", True)
            assert [row[1] for row in items["t/0"]] == ["memo", "ask"]
            before = picture(items)
            view = RunView(durable, ref.workflow_run_id)
            do, place = view.actions(), {"run": wait["parent"], "branch": wait["branch"], "node": wait["node"]}
            question = do["question"](**place)
            assert (question["question"], question["schema"]) == ("Publish?", {"type": "boolean"})
            do["answer"](question=question["id"], text="true", by="ada", reason=None)
            with pytest.raises(UnknownQuestionError, match="not asked any more"):
                do["question"](**place)
            view.close()
            assert ref.result() is True
            items = source.read(connection)
            assert items["run"]["state"] == "completed"
            (wait,) = (item for key, item in items.items() if key.startswith("w/"))
            assert wait["state"] == "completed"
            assert "I ask" in [row[4] for key, row in items.items() if key.startswith("l/")]
            assert "Publish?" in before
            assert picture(items) != before
