"""Artifacts: bytes, arrays and tables go into the log and come back as they were, by hash, and nothing is ever unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict, deque
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from durable_nb import Context, Durable, DurableContext, TaskRunError
from durable_nb.errors import ArtifactError, DeclarationError, InputValidationError
from durable_nb.tasks import artifacts as module
from tests.engine.helpers import Bench, reach, settle

numpy: Any = pytest.importorskip("numpy")
pandas: Any = pytest.importorskip("pandas")


def same(ours: Any, theirs: Any) -> None:
    """Check that two values are equal in type and content."""
    assert type(ours) is type(theirs)
    if isinstance(ours, numpy.ndarray):
        assert (ours.dtype, ours.shape, ours.flags.f_contiguous) == (theirs.dtype, theirs.shape, theirs.flags.f_contiguous)
        assert ours.tobytes() == theirs.tobytes()
    elif isinstance(ours, pandas.DataFrame):
        pandas.testing.assert_frame_equal(ours, theirs)
    elif hasattr(ours, "equals"):
        assert ours.equals(theirs)
    else:
        assert ours == theirs


def imported(name: str) -> Any:
    return pytest.importorskip(name)


def table() -> Any:
    pytest.importorskip("pyarrow")
    return pandas.DataFrame(
        {
            "whole": [1, 2],
            "missing": pandas.array([1, None], dtype="Int64"),
            "text": ["ä", None],
            "when": pandas.to_datetime(["2026-01-01", "2026-01-02"], utc=True),
            "kind": pandas.Categorical(["u", "v"]),
        },
        index=pandas.Index([10, 20], name="key"),
    )


VALUES: dict[str, Callable[[], Any]] = {
    "bytes": lambda: bytes(range(256)),
    "no bytes": lambda: b"",
    "array": lambda: numpy.arange(6, dtype=">f4").reshape(2, 3),
    "fortran": lambda: numpy.asfortranarray(numpy.arange(6).reshape(2, 3)),
    "empty array": lambda: numpy.zeros((0, 3), dtype="complex64"),
    "0-d array": lambda: numpy.array(5, dtype="int8"),
    "dates": lambda: numpy.array(["2026-01-01"], dtype="M8[s]"),
    "text array": lambda: numpy.array(["a", "ü"]),
    "records": lambda: numpy.zeros(2, dtype=[("a", "i4"), ("b", "f8")]),
    "pandas": table,
    "arrow": lambda: imported("pyarrow").table({"a": [1, None], "b": [["x"], []]}),
    "polars": lambda: imported("polars").DataFrame({"a": [1, None], "b": ["x", "y"]}),
}


@pytest.mark.parametrize("name", VALUES)
def test_inputs_outputs_and_memos_come_back_as_they_were(durable: Durable, name: str) -> None:
    value = VALUES[name]()

    @durable.task()
    async def regular(input: Any, ctx: Context) -> Any:
        same(input, value)
        return input

    @durable.durable_task()
    async def orchestrate(input: Any, ctx: DurableContext) -> Any:
        same(input, value)
        same(await ctx.aio_memo(lambda: value), value)
        child = await regular.aio_run(input)
        same(child, value)
        return child

    same(regular.run(value), value)
    same(orchestrate.run(value), value)


@pytest.mark.parametrize("name", VALUES)
def test_they_come_back_after_a_crash(bench: Bench, durable: Durable, name: str) -> None:
    value, calls = VALUES[name](), list[int]()

    def declare(app: Durable) -> Any:
        @app.durable_task(name="keep")
        async def keep(input: Any, ctx: DurableContext) -> Any:
            def make(given: Any) -> Any:
                same(given, value)
                calls.append(1)
                return value

            memo = await ctx.aio_memo(make, Any, input)
            await ctx.aio_sleep_for(timedelta(hours=1))
            return {"memo": memo, "input": [input]}

        return keep

    ref = declare(durable).run(value, wait_for_result=False)
    bench.asked(ref, 2)
    bench.crash()
    durable.close()
    again = bench.durable()
    declare(again)
    bench.clock.advance(3601)
    result = again.runs.get_result(ref.workflow_run_id)
    same(result["memo"], value)
    same(result["input"][0], value)
    assert calls == [1]


def test_equal_content_is_kept_once_beside_a_small_reference(bench: Bench, durable: Durable) -> None:
    value = numpy.ones(100_000)

    @durable.task()
    async def twice(input: Any, ctx: Context) -> Any:
        return [input, {"again": input}]

    twice.run(value)
    assert bench.count("artifact") == 1
    ((output,),) = bench.rows("SELECT output FROM v_runs")
    reference = {"$artifact": "array of float64, shape (100000,)", "form": "npy", "bytes": 800_128}
    ((digest,),) = bench.rows("SELECT lower(hex(hash)) FROM artifact")
    assert json.loads(output) == [{**reference, "sha256": digest}, {"again": {**reference, "sha256": digest}}]


class Parcel(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)
    label: str
    image: Any


def test_annotated_types_hold_them(durable: Durable) -> None:
    async def scale(input: Any, ctx: Context) -> Any:
        return {"scaled": input * 2}

    scale.__annotations__ = {"input": numpy.ndarray, "return": dict[str, numpy.ndarray]}
    task = durable.task()(scale)
    same(task.run(numpy.arange(3))["scaled"], numpy.arange(3) * 2)
    with pytest.raises(InputValidationError, match="instance of ndarray"):
        task.run([1, 2])

    async def maybe(input: Any, ctx: Context) -> Any:
        return input

    maybe.__annotations__ = {"input": numpy.ndarray | None, "return": dict[str, numpy.ndarray] | None}
    assert durable.task()(maybe).run(None) is None

    @durable.task()
    async def pack(input: Parcel, ctx: Context) -> Parcel:
        return Parcel(label=input.label, image=input.image + 1)

    same(pack.run(Parcel(label="x", image=numpy.zeros(2))).image, numpy.ones(2))

    @durable.task()
    async def text(input: bytes, ctx: Context) -> bytes:
        return input + b"\xff"

    assert text.run(b"\x00") == b"\x00\xff"


@pytest.mark.parametrize("container", [OrderedDict(a=b"\xff"), deque([b"\xff"]), (b"\xff",), [[b"\xff"]], {"a": {b"\xff"}}])
def test_bytes_are_kept_in_containers_of_every_kind(durable: Durable, container: Any) -> None:
    @durable.task()
    async def same_again(input: Any, ctx: Context) -> Any:
        return input

    assert r"b'\xff'" in str(same_again.run(container))


def test_numpy_numbers_are_numbers(durable: Durable) -> None:
    @durable.task()
    async def count(input: Any, ctx: Context) -> Any:
        return [numpy.int64(3), numpy.float32(0.5), numpy.bool_(True)]

    result = count.run()
    assert result == [3, 0.5, True]
    assert [type(item) for item in result] == [int, float, bool]


# ---------------------------------------------------------------- what is refused


class Trap:
    """Something whose unpickling would be noticed."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("unpickled",)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "objects": (lambda: numpy.array([Trap()], dtype=object), "only pickle could keep"),
    "records of objects": (lambda: numpy.zeros(1, dtype=[("a", "O")]), "only pickle could keep"),
    "masked": (lambda: numpy.ma.array([1]), r"MaskedArray.*numpy\.asarray"),
    "series": (lambda: pandas.Series([1]), r"series\.to_frame\(\)"),
    "object column": (
        lambda: table().assign(whole=pandas.Series([1, 2], [10, 20], dtype=object)),
        "would come back as int64 instead of obj",
    ),
    "mixed column": (lambda: table().assign(whole=[Trap(), 1]), "Arrow cannot hold"),
    "two columns of one name": (lambda: pandas.concat([table(), table()], axis=1), "Duplicate column names"),
    "unknown": (Trap, r"Trap that JSON cannot hold"),
    "reserved key": (lambda: [b"x", {"$artifact": "mine"}], "key '\\$artifact' beside bytes"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_refused_with_a_sentence(bench: Bench, durable: Durable, name: str) -> None:
    make, sentence = REFUSED[name]
    value = make()

    @durable.task(name="strange")
    async def strange(input: Any, ctx: Context) -> Any:
        return value

    with pytest.raises(TaskRunError, match=sentence) as caught:
        strange.run()
    assert caught.value.exc_type == "IllegalTaskOutputError"
    assert "the output of task 'strange'" in caught.value.exc
    with pytest.raises(InputValidationError, match=sentence):
        strange.run(value)
    assert bench.count("artifact") == 0
    assert bench.count("run") == 1


def test_a_large_one_is_refused(durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ARTIFACT_BYTES", 1024 * 1024)

    @durable.task()
    async def large(input: Any, ctx: Context) -> Any:
        return bytes(2 * 1024 * 1024)

    with pytest.raises(TaskRunError, match=r"an artifact of 2 MiB .* takes 1 MiB each. Write it to a file") as caught:
        large.run()
    assert caught.value.exc_type == "PayloadTooLargeError"


def test_events_and_metadata_hold_none(durable: Durable) -> None:
    @durable.task()
    async def none(input: Any, ctx: Context) -> None: ...

    with pytest.raises(InputValidationError, match="only inputs and outputs may hold bytes"):
        durable.event.push("key", {"image": b"x"})
    with pytest.raises(InputValidationError, match="only inputs and outputs may hold bytes"):
        none.run(additional_metadata={"image": numpy.zeros(1)})


def test_without_pyarrow_a_table_is_refused_and_told_what_to_install(durable: Durable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)

    @durable.task()
    async def frame(input: Any, ctx: Context) -> Any:
        return pandas.DataFrame({"a": [1]})

    with pytest.raises(TaskRunError, match="pyarrow is not installed: `pip install pyarrow`"):
        frame.run()


def test_a_class_that_nothing_can_hold_is_still_refused_at_declaration(durable: Durable) -> None:
    async def take(input: Any, ctx: Context) -> Any: ...

    take.__annotations__ = {"return": dict[str, Trap | numpy.ndarray]}
    with pytest.raises(DeclarationError, match="pydantic cannot read"):
        durable.task()(take)


# ---------------------------------------------------------------- forged and damaged


def rewrite(durable: Durable, sql: str, *values: Any) -> None:
    engine = durable.engine

    async def work() -> None:
        await engine.writer.submit(lambda connection: connection.execute(sql, values).close())

    durable.call(work, aio="")


def test_a_value_that_looks_like_a_reference_is_a_value(durable: Durable) -> None:
    @durable.task()
    async def same_again(input: Any, ctx: Context) -> Any:
        return input

    forged = {"$artifact": "x", "form": "npy", "sha256": "0" * 64, "bytes": 1}
    assert same_again.run(forged) == forged
    assert same_again.run(' {"$artifact": 1}') == ' {"$artifact": 1}'


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("DELETE FROM artifact", "is not in this log"),
        ("UPDATE artifact SET body = x'00'", "is damaged in the log"),
        ("UPDATE run SET output = replace(output, 'bytes', 'npy')", "is no npy, as its payload says"),
        ("UPDATE run SET output = replace(output, '\"bytes\"', '\"pickle\"')", "in a way that this durable_nb does not know"),
    ],
)
def test_a_missing_damaged_or_forged_artifact_is_said(bench: Bench, durable: Durable, sql: str, sentence: str) -> None:
    @durable.task()
    async def keep(input: Any, ctx: Context) -> Any:
        return b"body"

    ref = keep.run(wait_for_result=False)
    assert ref.result() == b"body"
    rewrite(durable, sql)
    with pytest.raises(ArtifactError, match=sentence):
        ref.result()
    assert len(durable.runs.list()) == 1


@pytest.mark.parametrize("form", ["npy", "pandas", "arrow"])
def test_a_pickle_in_the_log_is_never_executed(
    durable: Durable, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    monkeypatch.chdir(tmp_path)

    @durable.task()
    async def keep(input: Any, ctx: Context) -> Any:
        return b"body"

    ref = keep.run(wait_for_result=False)
    ref.result()
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    body = (header if form == "npy" else b"") + pickle.dumps(Trap())
    digest = hashlib.sha256(body).digest()
    reference = {"$artifact": "x", "form": form, "sha256": digest.hex(), "bytes": len(body)}
    rewrite(durable, "INSERT INTO artifact VALUES (?, ?)", digest, body)
    rewrite(durable, "UPDATE run SET output = ?", " " + json.dumps(reference))
    with pytest.raises(ArtifactError, match=f"is no {form}"):
        ref.result()
    assert not (tmp_path / "unpickled").exists()


def test_a_run_whose_input_is_damaged_fails_or_is_parked_with_the_sentence(bench: Bench, durable: Durable) -> None:
    @durable.durable_task()
    async def wait(input: Any, ctx: DurableContext) -> None:
        await ctx.aio_wait_for_event("go")

    ref = wait.run(b"body", wait_for_result=False)
    bench.asked(ref, 1)
    bench.crash()
    durable.close()
    again = bench.durable(slots=None)
    rewrite(bench.durable(), "DELETE FROM artifact")
    again.durable_task(name="wait")(wait.function)
    again.event.push("go")
    settle(again)
    run = reach(again, ref, lambda run: run.blocked_reason or run.is_ended)
    assert "is not in this log" in (run.blocked_reason or str(run.error))


def test_importing_the_package_and_running_tasks_imports_no_numpy(tmp_path: Path) -> None:
    code = (
        "import sys; from durable_nb import Durable\n"
        "d = Durable('x.db')\n"
        "@d.task()\n"
        "def t(input, ctx): return {'a': b'1'}\n"
        "assert t.run() == {'a': b'1'}; d.close()\n"
        "assert not {'numpy', 'pandas', 'pyarrow', 'polars'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=environment)
