"""A bundle is a run's tree in one file: readable by every reader, replayed offline once it is trusted, and kept as a test."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr, field_serializer

from durable_nb import Context, Durable, DurableContext, EmptyModel, RunRef, TaskRunError, open_bundle
from durable_nb.bundles.checking import check_bundle
from durable_nb.errors import InertLogError, InputValidationError, LogError, UnknownRunError, UntrustedError
from durable_nb.log import reads
from durable_nb.log.rebuild import differences
from tests.engine.helpers import Bench, reach


def declare(durable: Durable, *, asks_more: bool = False, gives_other: bool = False) -> Any:
    @durable.task()
    async def price(input: str, ctx: Context) -> dict[str, Any]:
        ctx.log(f"pricing {input}")
        return {"item": input, "table": b"\x00" * 10, "text": "x" * 70_000}

    @durable.durable_task()
    async def order(input: list[str], ctx: DurableContext) -> Any:
        prices = [await price.aio_run(item) for item in input]
        await ctx.aio_sleep_for(timedelta(seconds=5))
        if asks_more:
            await ctx.aio_sleep_for(timedelta(seconds=1))
        approval = await ctx.aio_wait_for_event("approve")
        if approval == "fail":
            raise ValueError("not approved")
        return [len(prices) + gives_other, approval]

    return order


def ended(bench: Bench, durable: Durable, order: Any, approval: Any = "yes") -> RunRef[Any]:
    ref: RunRef[Any] = order.run(["tea", "milk"], wait_for_result=False)
    bench.asked(ref, 3)
    bench.clock.advance(6)
    bench.asked(ref, 4)
    durable.event.push("approve", approval)
    reach(durable, ref, lambda run: run.is_ended)
    return ref


def test_a_bundle_holds_the_tree_and_nothing_else(bench: Bench, durable: Durable, tmp_path: Path) -> None:
    order = declare(durable)
    ref, _ = ended(bench, durable, order), ended(bench, durable, order)
    made = durable.runs.bundle(ref, tmp_path / "order.bundle")
    assert sorted(path.name for path in tmp_path.glob("*order*")) == ["order.bundle"]
    assert made.stat().st_mode & 0o077 == 0
    bundle = open_bundle(made)
    assert bundle.run == durable.runs.get(ref)
    assert bundle.read(lambda log: reads.list_checkpoints(log, bundle.run.number)) == list(
        durable.runs.get_details(ref).checkpoints
    )
    assert bundle.read(differences) == []
    assert bundle.read(lambda log: log.execute("SELECT count(*) FROM run, event").fetchone()) == (3,)
    assert bundle.read(lambda log: log.execute("SELECT text FROM line ORDER BY seq").fetchall()) == [
        ("pricing tea",),
        ("pricing milk",),
    ]
    shown = bundle._repr_mimebundle_()["text/plain"]
    assert "order" in shown
    assert "sleep 5s" in shown
    with pytest.raises(LogError, match="exists already"):
        durable.runs.bundle(ref, made)
    with pytest.raises(UnknownRunError):
        durable.runs.bundle("nobody", tmp_path / "other.bundle")
    assert not (tmp_path / "other.bundle").exists()


def test_a_child_can_be_bundled_alone_and_so_can_a_run_that_goes_on(bench: Bench, durable: Durable, tmp_path: Path) -> None:
    order = declare(durable)
    ref = order.run(["tea"], wait_for_result=False)
    bench.asked(ref, 2)
    [child] = durable.runs.list(parent=ref)
    alone = open_bundle(durable.runs.bundle(child.id, tmp_path / "child.bundle"))
    assert (alone.run.id, alone.run.parent) == (child.id, None)
    assert alone.run.output is not None
    going = open_bundle(durable.runs.bundle(ref, tmp_path / "going.bundle"))
    assert going.run.status == "RUNNING"
    assert going.read(differences) == []
    assert [item.problem for item in check_bundle(going.path, durable)] == [None]


def test_a_bundle_cannot_be_used_as_an_app_object(bench: Bench, durable: Durable, tmp_path: Path) -> None:
    bundle = open_bundle(durable.runs.bundle(ended(bench, durable, declare(durable)), tmp_path / "order.bundle"))
    before = bundle.path.read_bytes()
    with pytest.raises(InertLogError, match="is a bundle: it can be looked at and replayed, and changes nothing"):
        bundle.runs.cancel("x")
    with pytest.raises(LogError, match="readonly"):
        bundle.read(lambda log: log.execute("DELETE FROM run"))
    assert bundle.path.read_bytes() == before


# ---------------------------------------------------------------- as a test


def test_its_histories_pass_with_the_same_code_and_fail_where_it_diverges(bench: Bench, durable: Durable, tmp_path: Path) -> None:
    order = declare(durable)
    good = durable.runs.bundle(ended(bench, durable, order), tmp_path / "good.bundle")
    bad = durable.runs.bundle(ended(bench, durable, order, "fail"), tmp_path / "bad.bundle")
    for path in (good, bad):
        assert [item.problem for item in check_bundle(path, durable)] == [None]
    more = Durable(tmp_path / "more.db")
    declare(more, asks_more=True)
    with pytest.raises(AssertionError, match=r"diverges at checkpoint 4: recorded event approve, the code asks sleep 1s"):
        check_bundle(good, more)
    other = Durable(tmp_path / "other.db")
    declare(other, gives_other=True)
    with pytest.raises(AssertionError, match=r"gave \[2,\"yes\"\], but the code gives \[3,\"yes\"\]"):
        check_bundle(good, other)
    assert not (tmp_path / "other.db").exists(), "no engine is needed"


def test_a_workflow_and_its_durable_tasks_are_checked(bench: Bench, durable: Durable, tmp_path: Path) -> None:
    flow = durable.workflow(name="flow")

    @flow.durable_task()
    async def naps(input: EmptyModel, ctx: DurableContext) -> int:
        await ctx.aio_sleep_for(timedelta(0))
        return 1

    @flow.task(parents=[naps])
    def after(input: EmptyModel, ctx: Context) -> int:
        return ctx.task_output(naps) + 1

    ref = flow.run(wait_for_result=False)
    assert ref.result() == {"naps": 1, "after": 2}
    checked = check_bundle(durable.runs.bundle(ref, tmp_path / "flow.bundle"), durable)
    assert [(item.task, item.problem) for item in checked] == [("flow:naps", None)]


async def name() -> str:
    return "Ada"


@pytest.mark.slow
def test_it_writes_a_test_file_that_passes_and_fails_with_the_code(bench: Bench, durable: Durable, tmp_path: Path) -> None:
    code = (
        "from durable_nb import Durable, DurableContext\n"
        "durable = Durable('unused.db')\n"
        "async def name() -> str:\n    raise RuntimeError('a replay executes no memo')\n"
        "@durable.durable_task()\n"
        "async def greet(input: str, ctx: DurableContext) -> str:\n"
        "    return f'Hello, {await ctx.aio_memo(name, str)}'\n"
    )

    @durable.durable_task(name="greet")
    async def greet(input: str, ctx: DurableContext) -> str:
        return f"Hello, {await ctx.aio_memo(name, str)}"

    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "flow.py").write_text(code)
    ref = greet.run("Ada", wait_for_result=False)
    ref.result()
    bundle = open_bundle(durable.runs.bundle(ref, folder / 'it\'s "odd".bundle'))
    test = bundle.to_test(folder / "test_greet.py", module="flow")
    assert "def test_greet_does_what_was_recorded() -> None:" in test.read_text()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test), "--rootdir", str(folder)]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, str(folder)])}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    (folder / "flow.py").write_text(code.replace("Hello", "Goodbye"))
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert 'gave "Hello, Ada", but the code gives "Goodbye, Ada"' in done.stdout
    for module, app in (("os; evil", "durable"), ("flow", "x()")):
        with pytest.raises(LogError, match="is no import"):
            bundle.to_test(folder / "test_other.py", module=module, app=app)
    with pytest.raises(LogError, match="The test finds its bundle beside itself"):
        bundle.to_test(tmp_path / "test_other.py", module="flow")


# ---------------------------------------------------------------- from elsewhere


def test_what_is_no_bundle_is_refused(bench: Bench, durable: Durable, tmp_path: Path) -> None:
    good = durable.runs.bundle(ended(bench, durable, declare(durable)), tmp_path / "good.bundle")
    durable.upkeep.backup(tmp_path / "copy.db")
    cases = {"text": b"no database", "empty": b"", "cut": good.read_bytes()[:9000], "log": (tmp_path / "copy.db").read_bytes()}
    for name, body in cases.items():
        path = tmp_path / name
        path.write_bytes(body)
        with pytest.raises(LogError):
            open_bundle(path)
    with pytest.raises(LogError, match="There is no bundle"):
        open_bundle(tmp_path / "missing")
    with pytest.raises(LogError, match="There is no bundle"):
        open_bundle(tmp_path)


@pytest.mark.parametrize(
    "evil",
    [
        "CREATE VIEW more AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM n",
        "CREATE TRIGGER more AFTER INSERT ON line BEGIN DELETE FROM run; END",
        "ALTER TABLE run ADD COLUMN more TEXT",
        "DROP VIEW v_runs; CREATE VIEW v_runs AS SELECT load_extension('evil') AS id",
        "PRAGMA writable_schema = 1; UPDATE sqlite_schema SET sql = sql || ' ' WHERE name = 'run'",
        "DELETE FROM bundle",
        "UPDATE run SET parent = number",
        "INSERT INTO branch SELECT number, 2, 2, 1, '[]', '', 0 FROM run",
        "UPDATE checkpoint SET child = 99 WHERE child IS NOT NULL",
        "UPDATE bundle SET redacted = '{'",
        "UPDATE run SET metadata = '}', input = 'no json', error = 'no json', kind = 'durable_task'",
    ],
)
def test_a_hostile_bundle_is_refused_or_harmless(bench: Bench, durable: Durable, tmp_path: Path, evil: str) -> None:
    path = durable.runs.bundle(ended(bench, durable, declare(durable)), tmp_path / "evil.bundle")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.executescript(evil)
    if evil.startswith("UPDATE run SET metadata"):
        bundle = open_bundle(path)
        bundle._repr_mimebundle_()
        assert not bundle.is_trusted
        with pytest.raises(AssertionError, match=r"is not JSON|does not fit"):
            check_bundle(path, durable)
    else:
        with pytest.raises(LogError):
            open_bundle(path)


def test_nothing_of_it_is_executed_until_its_very_content_is_trusted(
    bench: Bench, durable: Durable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = durable.runs.bundle(ended(bench, durable, declare(durable)), tmp_path / "order.bundle")
    assert open_bundle(path).is_trusted, "it was made here"
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "somebody else"))
    bundle = open_bundle(path)
    assert not bundle.is_trusted
    with pytest.raises(UntrustedError, match="was not made by you, so none of its code is executed"):
        bundle.replay()
    assert bundle.trust().is_trusted
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE definition SET body = body || ' '")
        connection.execute("INSERT INTO definition VALUES ('order', 'v', 'durable_task', '{}', '{}', '', x'00', 0)")
        connection.commit()
    assert not open_bundle(path).is_trusted


# ---------------------------------------------------------------- secrets


class Login(BaseModel):
    user: str
    password: str
    pin: int = Field(default=0, json_schema_extra={"redact": True})
    key: SecretStr = SecretStr("s3cret-key")

    @field_serializer("key")
    def _key(self, key: SecretStr) -> str:
        return key.get_secret_value()


class Hidden(BaseModel):
    key: SecretStr


def test_redacted_fields_stay_in_the_log_and_leave_the_bundle(bench: Bench, tmp_path: Path) -> None:
    durable = bench.durable(redact=["password", "keys.*_token"])

    @durable.durable_task()
    async def log_in(input: Login, ctx: DurableContext) -> dict[str, Any]:
        async def fetch() -> dict[str, Any]:
            return {"keys": {"api_token": "s3cret-token", "name": "n"}, "api_token": "not under keys", "password": "s3cret"}

        fetched: dict[str, Any] = await ctx.aio_memo(fetch, dict[str, Any])
        return fetched

    ref = log_in.run(
        Login(user="ada", password="s3cret", pin=4321), wait_for_result=False, additional_metadata={"password": "s3cret-meta"}
    )
    assert ref.result()["password"] == "s3cret"
    bundle = open_bundle(durable.runs.bundle(ref, tmp_path / "login.bundle"))
    assert bundle.info.redacted == ("password", "keys.*_token", "key", "pin")
    assert bundle.run.input == '{"user":"ada","password":"[redacted]","pin":"[redacted]","key":"[redacted]"}'
    assert (
        bundle.run.output == '{"keys":{"api_token":"[redacted]","name":"n"},"api_token":"not under keys","password":"[redacted]"}'
    )
    assert b"s3cret" not in bundle.path.read_bytes()
    assert b"4321" not in bundle.path.read_bytes()
    assert "s3cret" in durable.runs.get(ref).input, "the log keeps what a replay needs"


def test_a_secret_that_would_be_lost_is_refused(durable: Durable) -> None:
    @durable.task()
    async def lost(input: Hidden, ctx: Context) -> None: ...

    @durable.task()
    async def gives(input: str, ctx: Context) -> Any:
        return {"all": [Hidden(key=SecretStr(input))]}

    with pytest.raises(InputValidationError, match="holds a SecretStr, which pydantic writes as asterisks"):
        lost.run({"key": "s3cret"})
    with pytest.raises(TaskRunError, match="holds a SecretStr"):
        gives.run("s3cret")
    assert durable.runs.list(task="lost") == []
