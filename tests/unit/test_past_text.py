"""Histories in a terminal: positions, trees and comparisons as text, with nothing in them that a terminal would obey."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from durable_nb import Durable, DurableContext
from durable_nb.views import past_text

HOSTILE = "\x1b[31m[red]\u202e</b>"


@pytest.fixture(autouse=True)
def private_keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))


def shown(what: object) -> str:
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        console.print(what)
    text = capture.get()
    assert not set(text) & set("\x1b\u202e")
    return text


async def told(input: str, ctx: DurableContext) -> str:
    text = input * 2
    got = await ctx.aio_memo(lambda: {"text": text, "n": 1}, dict)
    await ctx.aio_now()
    return str(got)


def test_positions_trees_and_comparisons_are_text(tmp_path: Path) -> None:
    with Durable(tmp_path / "log.db") as durable:
        ref = durable.durable_task()(told).run(HOSTILE, wait_for_result=False)
        ref.result()
        fork = durable.runs.fork(ref, 1, override={"text": HOSTILE, "n": 2})
        fork.result()
        steps = durable.runs.step_through(ref)
        first = shown(past_text.position(steps, steps[0]))
        assert "told #1 checkpoint 1 of 2: memo" in first
        assert "▶" in first and "got = await ctx.aio_memo" in first
        assert "\\x1b[31m[red]\\u202e</b>" in first
        table = shown(past_text.positions(steps))
        assert "got={'text': " in table and "the function returned" in table
        tree = shown(past_text.family_tree(durable.runs.get(ref), durable.runs.family(ref)))
        assert f"✓ fork #2 {fork.workflow_run_id} at checkpoint 1" in tree
        origin = shown(past_text.family_tree(durable.runs.get(fork), durable.runs.family(fork)))
        assert origin.startswith(f"#1 {ref.workflow_run_id}: forked at checkpoint 1")
        sides = shown(past_text.comparison_table(durable.runs.compare(ref, fork)))
        assert "They first differ at checkpoint 1." in sides
        assert "n: 1" in sides and "2" in sides
        same = shown(past_text.comparison_table(durable.runs.compare(ref)))
        assert "They are the same." in same and "1–2: 2 checkpoints the same" in same
