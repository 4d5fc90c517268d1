"""A run of a notebook travels as a bundle: with its code, which is replayed offline only once it is trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from durable_nb import open_bundle
from durable_nb.errors import UntrustedError
from tests.notebook.helpers import Shell

CELLS = (
    "from pathlib import Path\nfrom durable_nb import Context, DurableContext\nRATE = 2\n",
    "%%task\ndef double(input: int, ctx: Context) -> int:\n    return RATE * input\n",
    "%%durable_task\nasync def twice(input: int, ctx: DurableContext) -> int:\n"
    "    once = await double.aio_run(input)\n"
    "    assert await ctx.aio_memo(lambda: b'\\x01', bytes) == b'\\x01'\n"
    "    return await double.aio_run(once)\n",
    "%%durable_task\nasync def writes(input: str, ctx: DurableContext) -> int:\n"
    "    await double.aio_run(1)\n    Path(input).write_text('here')\n    return await double.aio_run(2)\n",
)


@pytest.mark.slow
def test_a_bundle_is_replayed_by_its_own_code_when_it_is_trusted(
    shell: Shell, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cell in CELLS:
        shell.cell(cell)
    shell.cell("ref = twice.run(3, wait_for_result=False)\nassert ref.result() == 12\ndurable.runs.bundle(ref, 'twice.bundle')")
    shell.cell("ref = writes.run('effect', wait_for_result=False)\nref.result()\ndurable.runs.bundle(ref, 'writes.bundle')")
    (folder / "effect").unlink()
    bundle = open_bundle(folder / "twice.bundle")
    assert "return await double.aio_run(once)" in bundle.sources()["twice"]
    assert [(verdict.kind, verdict.reason) for verdict in bundle.replay()] == [("goes on", "")]
    steps = bundle.step_through()
    assert [step.line for step in steps][:3] == [3, 4, 5]
    assert steps[2].locals["once"].text == "6"
    [verdict] = open_bundle(folder / "writes.bundle").replay()
    assert (verdict.kind, "writes" in verdict.reason) == ("not checkable", True)
    assert not (folder / "effect").exists()
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(folder / "somebody else"))
    with pytest.raises(UntrustedError, match=r"read bundle.sources\(\), then say bundle.trust\(\)"):
        open_bundle(folder / "twice.bundle").replay()
    unseen = open_bundle(folder / "twice.bundle").step_through()[0]
    assert (unseen.locals, bool(unseen.reason)) == ({}, True), "nothing of it was executed"
    assert [verdict.kind for verdict in open_bundle(folder / "twice.bundle").trust().replay()] == ["goes on"]
