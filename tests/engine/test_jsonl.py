"""A log leaves as JSON lines and comes back as an equal one, which is inert; what was cut or changed makes nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from durable_nb import Context, Durable, DurableContext, import_jsonl
from durable_nb.errors import InertLogError, LogError, NewerLogError, NotALogError
from durable_nb.log.jsonl import write_jsonl
from durable_nb.log.rebuild import differences
from durable_nb.log.redacting import Redaction
from durable_nb.log.transfer import TABLES
from tests.engine.helpers import Bench, closing_log


def declare(durable: Durable) -> Any:
    @durable.task()
    async def part(input: int, ctx: Context) -> dict[str, Any]:
        ctx.log("ünïcode ✓ \ud800")
        ctx.put_stream(b"\x00\xff")
        return {"secret": "s3cret", "bytes": b"\x01\x02", "large": "x" * 70_000}

    @durable.durable_task(concurrency=3)
    async def whole(input: int, ctx: DurableContext) -> int:
        await part.aio_run(input)
        await ctx.aio_sleep_for(timedelta(seconds=1))
        await ctx.aio_wait_for_event("go")
        return input

    return whole


@pytest.fixture
def exported(bench: Bench, tmp_path: Path) -> Path:
    durable = bench.durable()
    whole = declare(durable)
    waiting = whole.run(1, wait_for_result=False)
    bench.asked(waiting, 2)
    bench.clock.advance(2)
    bench.asked(waiting, 3)
    durable.event.push("other", {"secret": "s3cret"})
    durable.close()
    return write_jsonl(bench.path, tmp_path / "log.jsonl", redaction=Redaction([]))  # while no engine moves anything


def rows(path: Path) -> dict[str, list[Any]]:
    with closing_log(path) as connection:
        return {table: sorted(connection.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in TABLES}


def test_an_import_gives_an_equal_log_which_goes_on_once_it_is_trusted(bench: Bench, exported: Path, tmp_path: Path) -> None:
    log = import_jsonl(exported, tmp_path / "again.db")
    before, after = rows(bench.path), rows(log)
    assert {name for name in TABLES if before[name] != after[name]} <= {"worker"}
    assert len(after["run"]) == 2
    with closing_log(log) as connection:
        assert differences(connection) == []
    durable = Durable(log, clock=bench.clock)
    with pytest.raises(InertLogError):
        durable.open()
    durable.trust()
    declare(durable)
    with durable:
        [run] = durable.runs.list()
        durable.event.push("go", {})
        assert durable.runs.get_run_ref(run.id).result() == 1


def test_each_line_is_a_row(exported: Path) -> None:
    head, *lines, end = [json.loads(line) for line in exported.read_text(encoding="utf-8").splitlines()]
    assert (head["durable_nb"], head["redacted"]) == (1, [])
    assert end == {"end": len(lines)}
    [child] = [line["row"] for line in lines if line["table"] == "run" and line["row"]["task"] == "part"]
    assert child["status"] == "COMPLETED"
    assert set(child["output"]) == {"base64"}, "it is large, so it stands in table `payload`"


def test_redacted_fields_leave_the_export_wherever_they_stood(bench: Bench, exported: Path, tmp_path: Path) -> None:
    durable = bench.durable(redact=["secret"])
    clean = durable.upkeep.export_jsonl(tmp_path / "clean.jsonl")
    assert "s3cret" in exported.read_text(encoding="utf-8")
    assert "s3cret" not in clean.read_text(encoding="utf-8")
    log = import_jsonl(clean, tmp_path / "clean.db")
    with closing(sqlite3.connect(log)) as connection:
        outputs = connection.execute("SELECT output ->> 'secret' FROM v_runs WHERE task = 'part'").fetchall()
        assert outputs == [("[redacted]",)]
        assert connection.execute("SELECT count(*) FROM artifact").fetchone() == (1,)


def test_what_was_cut_or_changed_makes_nothing(exported: Path, tmp_path: Path) -> None:
    lines = exported.read_text(encoding="utf-8").splitlines(keepends=True)
    run = next(index for index, line in enumerate(lines) if '"table":"run"' in line)
    row = json.loads(lines[run])

    def with_run(**changed: Any) -> str:
        return "".join([*lines[:run], json.dumps({**row, "row": {**row["row"], **changed}}) + "\n", *lines[run + 1 :]])

    cases = {
        "": NotALogError,
        "hello": LogError,
        "[]\n": LogError,
        '{"durable_nb": 2}\n': NotALogError,
        lines[0].replace('"schema":1', '"schema":99'): NewerLogError,
        lines[0]: LogError,
        "".join(lines[:-1]): LogError,
        "".join(lines)[:-20]: LogError,
        "".join(lines)[: len(lines[0]) + 40]: LogError,
        "".join([*lines[:run], *lines[run + 1 :]]): LogError,
        "".join([*lines, lines[-2]]): LogError,
        with_run(number="one"): LogError,
        with_run(number=2**70): LogError,
        with_run(input={"base64": "?"}): LogError,
        with_run(input=[1]): LogError,
        with_run(**{"id) VALUES (1); DROP TABLE run --": 1}): LogError,
        with_run(parent=row["row"]["number"]): LogError,
        "".join(lines).replace('"table":"run"', '"table":"sqlite_schema"'): LogError,
    }
    for number, (text, error) in enumerate(cases.items()):
        path, log = tmp_path / f"{number}.jsonl", tmp_path / f"{number}.db"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(error):
            import_jsonl(path, log)
        assert not list(tmp_path.glob(f"*{number}.db*")), text[-200:]
    with pytest.raises(LogError, match="cannot be read"):
        import_jsonl(tmp_path / "missing", tmp_path / "new.db")
    with pytest.raises(LogError, match="exists already"):
        import_jsonl(exported, exported)
