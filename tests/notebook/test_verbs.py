"""The verbs that steer, ask and look: what they do, what they give, and the sentence where the line cannot work."""

from __future__ import annotations

import threading

import pytest

from durable_nb.client import Durable
from durable_nb.notebook.handle import Handle
from durable_nb.notebook.verbs import TABLE
from tests.notebook.helpers import Shell, wait_until

WAITER = (
    "%%durable_task\nasync def waiter(input: dict, ctx) -> int:\n"
    "    await ctx.aio_now()\n    got = await ctx.aio_wait_for_event('go')\n    return got['n']\n"
)
ASKER = (
    "%%durable_task\nasync def asker(input: str, ctx) -> object:\n"
    "    return await ctx.aio_ask(input, bool if input == 'yes?' else int, assignees=['ada'])\n"
)


def app(shell: Shell) -> Durable:
    durable: Durable = shell.names["durable"]
    return durable


def start(shell: Shell, cell: str, line: str) -> Handle:
    shell.cell(cell)
    handle: Handle = shell.cell(f"%durable run {line}").result
    wait_until(lambda: "◌ waits" in shell.cell(f"%durable show {handle.id}").text, what="the wait")
    return handle


# ---------------------------------------------------------------- steering


def test_cancel_ends_runs_says_so_and_says_which_had_ended(shell: Shell) -> None:
    first = start(shell, WAITER, "waiter {} --key first")
    second = start(shell, WAITER, "waiter {} --key second")
    said = shell.cell("%durable cancel first second --reason 'not needed'").text
    assert f"Run {first.id} of waiter is cancelled." in said
    assert f"Run {second.id} of waiter is cancelled." in said
    wait_until(lambda: first.status == second.status == "CANCELLED", what="the cancel")
    assert "had ended already (cancelled), so nothing was changed." in shell.cell("%durable cancel first").text
    assert "not needed" in shell.cell("%durable show first").text


def test_cancel_names_every_run_rightly_or_cancels_none(shell: Shell) -> None:
    handle = start(shell, WAITER, "waiter {} --key first")
    assert "No run 'second' is in this log" in shell.usage_error("%durable cancel first second")
    assert handle.status == "RUNNING"


def test_replay_gives_a_handle_and_repeats_nothing(shell: Shell) -> None:
    handle = start(shell, WAITER, "waiter {}")
    shell.cell('%durable emit go {"n": 5}')
    assert handle.result() == 5
    again = shell.cell("again = %durable replay #1\nagain").result
    assert again.id == handle.id
    assert shell.cell("await again").result == 5


def test_reset_asks_again_on_a_new_branch_of_the_same_run(shell: Shell) -> None:
    handle = start(shell, WAITER, "waiter {}")
    shell.cell('%durable emit go {"n": 5}')
    assert handle.result() == 5
    said = shell.cell("again = %durable reset #1 --node 2").text
    assert f"Run {handle.id} asks checkpoint 2 and all after it afresh, on a new branch." in said
    wait_until(lambda: "◌ waits" in shell.cell("%durable show #1").text, what="the wait")
    shell.cell('%durable emit go {"n": 6}')
    assert shell.cell("await again").result == 6


def test_fork_is_another_run_with_another_outcome(shell: Shell) -> None:
    handle = start(shell, WAITER, "waiter {}")
    shell.cell('%durable emit go {"n": 5}')
    assert handle.result() == 5
    shell.names["other"] = {"n": 70}
    fork = shell.cell("what_if = %durable fork #1 --node 2 --set $other\nwhat_if").result
    assert fork.id != handle.id
    assert shell.cell("await what_if").result == 70
    assert handle.result() == 5


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("cancel", "The following arguments are required: RUN: write `%durable cancel RUN … [--reason WORDS]`"),
        ("replay nope", "No run 'nope' is in this log"),
        ("replay #1", "is RUNNING, so it cannot be replayed"),
        ("reset #1", "The following arguments are required: --node"),
        ("reset #1 --node x", "x is no number of a checkpoint or branch: they begin at 1"),
        ("reset #1 --node 99", "99"),
        ("reset #1 --node -1", "-1 is no number of a checkpoint"),
        ("reset #1 --node 1 --branch 9", "9"),
        ("fork #1 --node 0", "0"),
        ("fork #1 --node 1 --set nope", "nope is not JSON"),
        ("fork #1 --node 99999999999999999999", "99999999999999999999"),
        ("approve #1", "asks nothing now"),
        ("approve nope/1/1", "No question 'nope/1/1' is in this log"),
        (
            "inbox --status closed",
            "--status closed is no status of a question: write open, answered, timed out, withdrawn or all.",
        ),
        ("inbox --limit 0", "--limit must be 1 or more"),
        ("runs --since yesterday", "--since yesterday is no time: write 90s, 2h or 3d for so long ago"),
        ("runs --since 99999999999999d", "is no time"),
        ("runs --metadata [1]", "--metadata [1] is no JSON object"),
        ("log #1 --limit 0", "--limit must be 1 or more"),
    ],
)
def test_a_line_that_cannot_work_says_why_and_changes_nothing(shell: Shell, line: str, sentence: str) -> None:
    handle = start(shell, WAITER, "waiter {}")
    assert sentence in shell.usage_error(f"%durable {line}")
    assert handle.status == "RUNNING"
    assert len(app(shell).runs.list()) == 1


# ---------------------------------------------------------------- people


def test_the_inbox_shows_what_is_asked_and_approve_answers_it(shell: Shell) -> None:
    assert shell.cell("%durable inbox").text.startswith("No question is open.\n")
    handle = start(shell, ASKER, 'asker "yes?"')
    output = shell.cell("asked = %durable inbox\nasked")
    assert "yes?" in output.text
    [item] = output.result
    assert item.run_id == handle.id
    assert "'perhaps' is not of type 'boolean'" in shell.usage_error(f"%durable approve {item.id} perhaps")
    assert "Answered “yes?” of asker" in shell.cell(f'%durable approve {item.id} yes --by ada --reason "seen it"').text
    assert handle.result() is True
    assert app(shell).inbox.get(item.id).reason == "seen it"
    assert "by ada" in shell.cell("%durable inbox --status answered").text
    assert "answered already by ada" in shell.usage_error(f"%durable approve {item.id} false")


def test_a_question_is_named_by_its_run_and_needs_a_fitting_value(shell: Shell) -> None:
    handle = start(shell, ASKER, 'asker "how many?"')
    assert "how many? takes integer, not just a yes" in shell.usage_error("%durable approve #1")
    assert "integer" in shell.usage_error('%durable approve #1 "many"')
    shell.cell("many = 41")
    shell.cell("%durable approve #1 $many")
    assert handle.result() == 41


# ---------------------------------------------------------------- looking


def test_runs_are_filtered_and_given_as_a_list(shell: Shell) -> None:
    shell.cell("%%task\ndef double(input: int, ctx) -> int:\n    return 2 * input\n")
    shell.cell('%durable run double 1 --wait --metadata {"team": "a"}')
    shell.cell('%durable run double 2 --wait --metadata {"team": "b"}')
    output = shell.cell('found = %durable runs --metadata {"team": "b"} --since 1h --task double --status completed\nfound')
    assert [run.input for run in output.result] == ["2"]
    assert output.text.count("double") == 1, "shown once, though the cell ends in it"
    assert "double" in shell.cell("found").text, "and again where a later cell ends in it"
    assert shell.cell("%durable runs --until 1h").text.startswith("No such run is in the log.\n")
    assert shell.cell("%durable runs --since 2099-01-01").text.startswith("No such run is in the log.\n")


def test_log_follow_prints_what_comes_until_the_run_ends(shell: Shell) -> None:
    shell.cell(
        "%%durable_task\nasync def talker(input: dict, ctx) -> None:\n    ctx.log('before')\n"
        "    await ctx.aio_wait_for_event('go')\n    ctx.log('after\\x1b[31m')\n"
    )
    shell.cell("%durable run talker {}")
    wait_until(lambda: "before" in shell.cell("%durable log #1").text, what="the first line")
    pusher = threading.Timer(0.3, lambda: app(shell).event.push("go"))
    pusher.start()
    said = shell.cell("%durable log #1 --follow").text
    pusher.join()
    assert said.index("before") < said.index("after\\x1b[31m")


# ---------------------------------------------------------------- help and completion


@pytest.mark.parametrize("verb", sorted(TABLE))
def test_every_verb_explains_itself(shell: Shell, verb: str) -> None:
    said = shell.cell(f"%durable {verb} --help").text
    assert said.startswith(f"usage: %durable {verb}")
    assert TABLE[verb].description in said
    assert shell.cell(f"%durable {verb}?").text == said


def test_tab_offers_questions_and_several_runs(shell: Shell) -> None:
    from durable_nb.notebook.extension import LOADED

    start(shell, ASKER, 'asker "yes?" --key mine')
    complete = LOADED[shell.ip]._completer.complete
    [item] = app(shell).inbox.list()

    def offered(line: str) -> list[str]:
        return [completion.text for completion in complete(line)["completions"]]

    assert offered("%durable approve ") == [item.id]
    assert "mine" in offered("%durable cancel other ")
    assert "--reason" in offered("%durable cancel other --")
    assert offered("%durable inbox --status t") == ["timed out"]
    assert offered("x = %durable fork #1 --n") == ["--node"]


def test_graph_gives_a_view_that_a_terminal_shows_as_text(shell: Shell) -> None:
    handle = start(shell, WAITER, "waiter {} --key first")
    shown = shell.cell("view = %durable graph first --tab timeline\nview")
    assert f"◌ waiting waiter #1 {handle.id}" in shown.text
    assert "◌ waits for `go`" in shown.text
    view = shell.names["view"]
    assert (view.run, view.tab) == (handle.id, "timeline")
    assert "No run 'second' is in this log" in shell.usage_error("%durable graph second")
    view.close()
