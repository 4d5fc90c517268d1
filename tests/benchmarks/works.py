"""What is measured, against whom, and what must be true of it: the table that `python -m tests.benchmarks` fills.

A gate is a ratio of figures that were taken in one run wherever that says enough, since machines differ and are noisy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.benchmarks.apart import Missing
from tests.benchmarks.measure import Measured

OURS = "ours"
SLACK = 0.05  # flushes a unit: the run's start and end, the WAL's checkpoints
PEERS = ("dbos", "langgraph", "huey")


@dataclass(frozen=True, slots=True)
class Gate:
    """A bound on one of our figures.

    Attributes:
        figure: whose value is bounded.
        bound: the least value, or the most where `is_most`.
        of: the contestant whose same figure the bound multiplies; '' for a bound on the value itself.
    """

    figure: str
    bound: float
    is_most: bool
    of: str = ""

    def __str__(self) -> str:
        multiplied = f" × {self.of}" if self.of else ""
        return f"{self.figure} {'≤' if self.is_most else '≥'} {self.bound:g}{multiplied}"


def least(figure: str, bound: float, of: str = "") -> Gate:
    """Give the gate ``figure ≥ bound (× of)``."""
    return Gate(figure, bound, is_most=False, of=of)


def most(figure: str, bound: float, of: str = "") -> Gate:
    """Give the gate ``figure ≤ bound (× of)``."""
    return Gate(figure, bound, is_most=True, of=of)


@dataclass(frozen=True, slots=True)
class Work:
    """One row of the table.

    Attributes:
        title: what is done, at full size.
        unit: what `rate` counts.
        shown: the figures that the table shows of us; the first is the one that others show.
        contestants: who does it, as ``module:function`` in this folder.
    """

    title: str
    unit: str
    shown: tuple[str, ...]
    contestants: Mapping[str, str]
    gates: tuple[Gate, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a gate; `value` is None where nothing can be said."""

    gate: Gate
    value: float | None

    @property
    def is_met(self) -> bool | None:
        """Whether the value keeps the bound; None where there is none."""
        if self.value is None:
            return None
        return self.value <= self.gate.bound if self.gate.is_most else self.value >= self.gate.bound


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a work, by contestant."""

    name: str
    work: Work
    answers: Mapping[str, Measured | Missing] = field(default_factory=dict)

    def figure(self, who: str, name: str) -> float | None:
        """Give a figure of a contestant, where there is one."""
        answer = self.answers.get(who)
        return answer.figures.get(name) if isinstance(answer, Measured) else None

    def verdicts(self) -> list[Verdict]:
        """Judge every gate."""
        return [Verdict(gate, self._value(gate)) for gate in self.work.gates]

    def _value(self, gate: Gate) -> float | None:
        ours = self.figure(OURS, gate.figure)
        if not gate.of or ours is None:
            return ours
        theirs = self.figure(gate.of, gate.figure)
        return ours / theirs if theirs else None


def _peers(function: str, *names: str) -> dict[str, str]:
    return {name: f"peer_{name}:{function}" for name in names}


WORKS: dict[str, Work] = {
    "sequential": Work(
        "1 run × 1,000 sequential memos, FULL",
        "memos",
        ("rate", "cpu_us", "flushes", "commits"),
        {OURS: "checkpoints:sequential", "raw": "raw:sequential", **_peers("sequential", *PEERS)},
        (least("rate", 0.8, "raw"), least("rate", 8, "dbos"), most("flushes", 1 + SLACK)),
    ),
    "relaxed": Work(
        "1 run × 1,000 sequential memos, relaxed",
        "memos",
        ("rate", "cpu_us", "commits"),
        {OURS: "checkpoints:relaxed", "raw": "raw:relaxed"},
        (least("rate", 6000), most("cpu_us", 100)),
    ),
    "concurrent": Work(
        "100 runs × 20 memos, FULL",
        "memos",
        ("rate", "cpu_us", "flushes", "commits"),
        {OURS: "checkpoints:concurrent", "raw": "raw:concurrent", **_peers("concurrent", *PEERS)},
        (least("rate", 0.3, "raw"), least("rate", 40, "dbos"), most("flushes", 0.03), most("cpu_us", 50)),
    ),
    "children": Work(
        "1 parent × 10,000 children with results, FULL",
        "children",
        ("rate", "cpu_us", "flushes"),
        {OURS: "checkpoints:children"},
        (least("rate", 4000),),
    ),
    "few-children": Work(
        "1 parent × 200 children with results, FULL",
        "children",
        ("rate", "cpu_us", "flushes"),
        {OURS: "checkpoints:few_children", **_peers("few_children", "dbos", "huey")},
        (least("rate", 20, "dbos"),),
    ),
    "empty": Work(
        "an empty run, start to result, FULL",
        "runs",
        ("p50_ms", "p99_ms", "cpu_us", "flushes", "commits"),
        {OURS: "checkpoints:empty", "raw": "raw:commit", **_peers("empty", *PEERS)},
        (most("flushes", 2 + SLACK), most("p50_ms", 3, "raw"), most("p99_ms", 3, "raw")),
    ),
    "replay": Work(
        "replay of 100,000 recorded checkpoints",
        "checkpoints",
        ("rate", "cpu_us"),
        {OURS: "replay:whole", "50,000": "replay:half", "10,000": "replay:tenth"},
        (least("rate", 50_000), least("rate", 0.8, "10,000")),
    ),
    "sleeping": Work(
        "1,000,000 sleeping runs; 10,000 fall due in one second",
        "runs made",
        ("rate", "resident_mb", "restart_s", "wake_p50_ms", "wake_p99_ms"),
        {OURS: "sleeping:sleeping"},
        (least("rate", 5000), most("resident_mb", 100), most("restart_s", 2), most("wake_p99_ms", 20)),
    ),
    "event": Work(
        "one event against 100,000 waits with input.user_id == N",
        "events",
        ("p50_ms", "p99_ms", "push_p50_ms"),
        {OURS: "events:one_of_many"},
        (most("p50_ms", 20),),
    ),
    "bystander": Work(
        "another run's memos while events meet 10,000 arbitrary filters",
        "memos",
        ("ratio", "p99_ms", "quiet_p99_ms", "push_ms"),
        {OURS: "events:bystander"},
        (most("ratio", 2),),
    ),
    "stream": Work(
        "10,000 events/s for one minute into one log, 2 processes",
        "events",
        ("rate", "p50_ms", "p99_ms", "cpu_us"),
        {OURS: "stream:stream"},
        (least("rate", 9500), most("p99_ms", 50)),
    ),
    "resume": Work(
        "going on after kill -9 with 1,000 runs in flight: all moving",
        "runs",
        ("resumed_s", "from_open_s"),
        {OURS: "resume:resume"},
        (most("resumed_s", 2),),
    ),
    "startup": Work(
        "import durable_nb beyond pydantic; %load_ext durable_nb",
        "starts",
        ("import_ms", "names_ms", "load_ms"),
        {OURS: "startup:startup"},
        (most("import_ms", 100), most("load_ms", 500)),
    ),
}
