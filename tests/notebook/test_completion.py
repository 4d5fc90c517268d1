"""Tab completes what can stand where the cursor is, at once, and never fails."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import pytest

from tests.notebook.helpers import Kernel, Shell, wait_until

WAITER = "%%durable_task\nasync def waiter(input, ctx):\n    await ctx.aio_wait_for_event('order:paid')\n"


def completed(shell: Shell, text: str) -> list[str]:
    """Give what Tab offers at the end of a cell, with what stands before it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # IPython calls this interface provisional
        found = list(shell.ip.Completer.completions(text, len(text)))
    return [(text[: item.start] + item.text).rpartition("\n")[2] for item in found]


def ends(shell: Shell, text: str) -> list[str]:
    """Give the last words that Tab offers."""
    return [line.rpartition(" ")[2] for line in completed(shell, text)]


@pytest.fixture
def defined(shell: Shell) -> Shell:
    shell.cell("%%task\ndef double(input: int, ctx) -> int:\n    return 2 * input\n")
    shell.cell(WAITER)
    return shell


def test_verbs_tasks_and_options(defined: Shell) -> None:
    assert ends(defined, "%durable ru") == ["run", "runs"]
    assert ends(defined, "%durable run ") == ["double", "waiter"]
    assert ends(defined, "%durable run wai") == ["waiter"]
    assert ends(defined, "handle = %durable run dou") == ["double"]
    assert ends(defined, "%trigger dou") == ["double"]
    assert ends(defined, "x = 1\n%durable run dou") == ["double"]
    assert ends(defined, "%durable run double 1 --k") == ["--key"]
    assert ends(defined, "%durable run double 1 --wait --") == ["--help", "--key", "--metadata"]
    assert ends(defined, "%durable runs --task w") == ["waiter"]
    assert ends(defined, "%durable runs --status f") == ["failed"]
    assert ends(defined, "%%durable_task --ret") == ["--retries"]
    assert ends(defined, "%%task --exec") == ["--execution-timeout", "--executor"]


def test_awaited_events_and_runs(defined: Shell) -> None:
    run = defined.cell("%durable run waiter --key first").result
    wait_until(lambda: "◌ waits" in defined.cell("%durable show first").text, what="the wait")
    assert ends(defined, "%durable emit ") == ["order:paid"]
    assert ends(defined, "%emit order:p") == ["order:paid"]
    assert ends(defined, f"%durable show {run.id[:4]}") == [run.id]
    assert ends(defined, "%durable show fi") == ["first"]
    assert ends(defined, "%durable log #") == ["#1"]


def test_variables_and_files(defined: Shell, folder: Path) -> None:
    defined.cell("order_17 = {'a': 1}")
    (folder / "orders").mkdir()
    (folder / "orders" / "one.json").write_text("{}")
    (folder / "orders" / "one.txt").write_text("{}")
    assert ends(defined, "%durable run double $order_") == ["$order_17"]
    assert ends(defined, "%durable run double @ord") == ["@orders/"]
    assert ends(defined, "%durable run double @orders/") == ["@orders/one.json"]


@pytest.mark.parametrize(
    "text",
    [
        "%durable nope ",
        "%durable run double @/no/such/folder/",
        "%durable run '",
        '%durable run double {"a": ',
        "%durable show \x00",
    ],
)
def test_nothing_is_offered_where_nothing_fits_and_nothing_fails(defined: Shell, text: str) -> None:
    assert [item.text for item in defined.ip.Completer.custom_matchers[0](_context(text))["completions"]] == []


def _context(text: str) -> object:
    from IPython.core.completer import CompletionContext

    return CompletionContext(token="", full_text=text, cursor_position=len(text), cursor_line=0, limit=None)


def test_python_is_completed_as_before(defined: Shell) -> None:
    assert "sorted" in ends(defined, "sort")
    defined.cell("value = {'a': 1}")
    assert any("value.items" in line for line in completed(defined, "value.it"))


def test_a_closed_or_busy_engine_does_not_hold_the_key(defined: Shell) -> None:
    defined.cell("%%task\nasync def busy(input, ctx):\n    import time\n    time.sleep(1.5)  # durable: ok\n")
    defined.cell("%durable run busy")
    time.sleep(0.2)
    began = time.monotonic()
    assert ends(defined, "%durable run dou") == ["double"]
    defined.ip.Completer.custom_matchers[0](_context("%durable show 0"))
    assert time.monotonic() - began < 1.0
    defined.cell("%durable close")
    assert ends(defined, "%durable run dou") == ["double"]


def test_unloading_takes_it_away(bare_shell: Shell) -> None:
    bare_shell.load()
    bare_shell.cell("%unload_ext durable_nb")
    assert bare_shell.ip.Completer.custom_matchers == []


@pytest.mark.slow
def test_in_a_kernel(kernel: Kernel) -> None:
    kernel.cell("%load_ext durable_nb")
    kernel.cell(WAITER)
    assert kernel.complete("h = %durable run wa") == ["waiter"]
    assert kernel.complete("%durable stat") == ["status"]
