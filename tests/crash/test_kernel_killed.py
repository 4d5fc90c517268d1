"""The airports notebook in a real kernel that is killed by SIGKILL, again and again, and told `%load_ext durable_nb` each time.

The result, the files and the children are compared with those of a run that nobody kills. Executions are counted by Python's
`logging`, in a file outside the log. CI takes a sample; ``DURABLE_NB_CRASH=all`` kills at every checkpoint, too.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from notebooks.headless import COUNTING, LOAD, NOTEBOOK, Observer, cells_to_run
from tests.notebook.helpers import Kernel, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STRIDES = (1, 2, 3, 5, 8, 13, 21) if os.environ.get("DURABLE_NB_CRASH") == "all" else (12,)
GROUPS = 57
COOL_DOWN_SECONDS = 3.0  # as the notebook has it
KEPT = dict.fromkeys(("17K", "CIR", "IWD", "ROR"), "keep")  # ROR against the proposal, which a time-out would take
ANSWER = f"%durable emit airports:decision {json.dumps({'by': 'Bob', 'decisions': {**KEPT, 'ROP': 'drop', 'YAP': 'drop'}})}"


class Story:
    """One run of the notebook: its kernels, one after the other, and what can be seen from outside them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.observer = Observer(folder)
        counting = folder / "counting.py"
        counting.write_text(COUNTING)
        environment = {"JPY_SESSION_NAME": str(folder / NOTEBOOK.name), "PYTHONSTARTUP": str(counting)}
        self.kernel = Kernel(folder, environment=environment)
        self.is_answered = False
        self.lives: list[Counter[str]] = []  # what each kernel executed, but for the last one's
        self.committed: list[set[str]] = []  # what was in the log at each kill

    def begin(self) -> None:
        """Start the run from the notebook's cells."""
        for cell in cells_to_run():
            self.kernel.cell(cell)

    def kill(self) -> None:
        """Kill the kernel, and take down what it did; what the log has must never be executed again."""
        self.kernel.kill()
        self.lives.append(self.executed() - sum(self.lives, Counter()))
        self.committed.append(self.in_log())

    def resume(self) -> None:
        """Start the next kernel, and tell it nothing but to load the extension."""
        self.kernel.start()
        self.kernel.cell(LOAD)

    def is_asking(self) -> bool:
        """Whether the run waits for an answer that nobody has given."""
        return not self.is_answered and "airports:decision" in self.observer.waits()

    def answer(self) -> None:
        """Answer in a cell, and go on the moment that the event is accepted, before it may have reached the run."""
        self.is_answered = True
        self.kernel.send(ANSWER)
        deadline = time.monotonic() + 20
        while not self.count("event"):  # not a moment to lose
            assert time.monotonic() < deadline, "the event was not accepted"

    # ------------------------------------------------------------ what can be seen

    def executed(self) -> Counter[str]:
        """How often the memo and each child were executed."""
        lines = (self.folder / "executions.txt").read_text().splitlines()
        return Counter(line.removeprefix("airports:") for line in lines if line.startswith("airports:"))

    def in_log(self) -> set[str]:
        """The memo and the children whose completion is in the log."""
        done = {f"score {group}" for group in self.observer.reports()}
        if self.observer.read("SELECT 1 FROM v_checkpoints WHERE kind = 'memo' AND seq IS NOT NULL"):
            done.add("groups")
        if self.observer.read("SELECT 1 FROM v_runs WHERE task = 'publish' AND status = 'COMPLETED'"):
            done.add("publish")
        return done

    def count(self, table: str) -> int:
        return int(self.observer.read(f"SELECT count(*) FROM {table}")[0][0])

    def recorded(self) -> int:
        """The number of the run's checkpoints that have an outcome."""
        return self.count("v_checkpoints WHERE task = 'clean_airports' AND seq IS NOT NULL")

    def is_completed(self) -> bool:
        status, outcome = self.observer.run()
        assert status not in {"FAILED", "CANCELLED"}, outcome
        return status == "COMPLETED"

    def deadline(self) -> float | None:
        """When the cool-down is over, while it is waited for."""
        rows = self.observer.read("SELECT due_at FROM wait WHERE name = 'sleep:3s'")
        return rows[0][0] if rows else None

    def outcome(self) -> dict[str, Any]:
        """What the run gave: its output without the paths, and its files."""
        _, output = self.observer.run()
        files = {name: Path(output.pop(name)).read_bytes() for name in ("table", "report")}
        return {**output, **files}

    def wait_for(self, condition: Callable[[], object], *, what: str) -> None:
        """Wait until something is so, or the run is completed."""
        wait_until(lambda: condition() or self.is_completed(), what=what, timeout=60)


@pytest.fixture(scope="module", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The keys, and IPython's profile, are the tests' own."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(folder / "data"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.delenv("DURABLE_NB_LOG", raising=False)
        yield


@contextmanager
def told(folder: Path) -> Iterator[Story]:
    """A story that has begun; its kernel ends with it."""
    story = Story(folder)
    try:
        story.begin()
        yield story
    finally:
        story.kernel.shut_down(now=True)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    with told(tmp_path) as story:
        yield story


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, home: None) -> dict[str, Any]:
    """What a run gives that nobody kills."""
    with told(tmp_path_factory.mktemp("undisturbed")) as story:
        story.wait_for(story.is_asking, what="the question")
        story.answer()
        wait_until(story.is_completed, what="the end")
    assert set(story.executed().values()) == {1}
    check(story, story.outcome())
    return story.outcome()


def check(story: Story, expected: dict[str, Any]) -> None:
    """Compare a run that has ended with one that nobody killed, and hold each kernel's executions against the log."""
    assert story.outcome() == expected
    assert (expected["airports"], expected["decided_by"]) == (3_369, "Bob")
    assert len(story.observer.children()) == len(set(story.observer.children())) == GROUPS, "no child is spawned twice"
    assert story.count("run") == 1 + GROUPS + 1
    assert story.count("event WHERE matched = 1") == story.count("event") == 1
    assert story.count("v_runs WHERE status <> 'COMPLETED'") == story.count("wait") == 0
    assert story.observer.read("PRAGMA integrity_check") == [("ok",)]
    lives = [*story.lives, story.executed() - sum(story.lives, Counter())]
    assert set(sum(lives, Counter())) == story.in_log() and len(story.in_log()) == GROUPS + 2
    for number, life in enumerate(lives):
        assert max(life.values(), default=1) == 1, f"kernel {number} executed something twice: {life}"
        committed = story.committed[number - 1] if number else set()
        assert not life.keys() & committed, f"kernel {number} executed what was in the log: {life.keys() & committed}"


def check_the_sleep(story: Story, deadline: float, *, alive_since: float) -> None:
    """The cool-down ended at its first deadline, or as soon as there was a kernel again.

    Args:
        deadline: what it was when a kernel was killed in the middle of it.
        alive_since: when the next kernel had loaded the extension.
    """
    [(asked_at, recorded_at)] = story.observer.read("SELECT asked_at, recorded_at FROM checkpoint WHERE kind = 'sleep'")
    assert asked_at + COOL_DOWN_SECONDS == pytest.approx(deadline, abs=0.001)
    assert deadline <= recorded_at < max(deadline, alive_since) + 1.0


@pytest.mark.parametrize("stride", STRIDES)
def test_a_kernel_killed_at_every_so_many_checkpoints(stride: int, story: Story, undisturbed: dict[str, Any]) -> None:
    target, alive_since = 0, 0.0
    deadline: float | None = None

    def is_due() -> bool:
        is_half_asleep = deadline is None and (story.deadline() or math.inf) < time.time() + COOL_DOWN_SECONDS / 2
        return story.is_asking() or is_half_asleep or story.recorded() >= target

    story.wait_for(is_due, what="the first checkpoint")
    while not story.is_completed():
        if story.is_asking():
            story.answer()
        story.kill()
        target, asleep_until = story.recorded() + stride, story.deadline()
        story.resume()
        if asleep_until is not None:
            assert deadline in (None, asleep_until) and story.deadline() in (None, asleep_until), "the deadline is kept"
            deadline, alive_since = asleep_until, time.time()
        story.wait_for(is_due, what=f"checkpoint {target}")
    assert any(1 < len(done) <= GROUPS for done in story.committed), "a kernel was killed among the children"
    assert deadline, "a kernel was killed during the cool-down"
    check_the_sleep(story, deadline, alive_since=alive_since)
    check(story, undisturbed)
