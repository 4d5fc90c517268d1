"""Random graphs against an oracle that is told by hand from the contract: which gates stand open, what runs, how the run ends.

Between two events the run is evicted, its engine closed, its process killed, or nothing happens. Runs that fail are retried.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from durable_nb import Context, Durable, EvictionPolicy, ParentCondition, RunCancelledError, UserEventCondition, or_
from durable_nb.errors import FailedTaskRunExceptionGroup, TaskRunError
from tests.engine.helpers import Bench, settle, wait_until

GATES = ("skip_if", "cancel_if", "wait_for")
EVENTS = "uvwxyz"
SKIPPED = {"skipped": True}
OPEN = """
SELECT key FROM wait WHERE NOT EXISTS (
    SELECT 1 FROM wait AS other WHERE other.run = wait.run AND other.branch = wait.branch AND other.node = wait.node
    AND other.group_number = wait.group_number AND other.matched_at IS NOT NULL)"""


@dataclass
class Node:
    """A task: parents, for each gate a list of groups of event keys (a bool is a parent's condition), attempts that fail."""

    name: str
    parents: list[str]
    gates: dict[str, list[list[str | bool]]]
    failures: int


def random_graph(rng: random.Random) -> list[Node]:
    nodes: list[Node] = []
    for number in range(rng.randint(2, 8)):
        parents = sorted(rng.sample([node.name for node in nodes], rng.randint(0, min(3, number))))
        gates = {}
        for gate in GATES:
            if rng.random() < (0.55 if gate == "wait_for" else 0.25):
                gates[gate] = [
                    [
                        rng.choice(EVENTS) if not parents or rng.random() < 0.7 else rng.random() < 0.5
                        for _ in range(rng.randint(1, 2))
                    ]
                    for _ in range(rng.randint(1, 2))
                ]
        nodes.append(Node(f"t{number}", parents, gates, rng.choice([0, 0, 0, 1, 2, 9])))
    return nodes


@dataclass
class Oracle:
    """The state of a run of the graph."""

    nodes: list[Node]
    retries: int
    how: dict[str, str] = field(default_factory=dict)
    open: dict[str, dict[str, list[list[str]]]] = field(default_factory=dict)  # task → gate → groups still unsatisfied
    runs: dict[str, int] = field(default_factory=dict)

    def settle(self) -> None:
        """Let everything happen that needs no event; again after each retry."""
        while self._pass():
            pass
        if len(self.how) == len(self.nodes) and "failed" in self.how.values() and self.retries:
            self.retries -= 1
            failed = [node for node in self.nodes if self.how[node.name] == "failed"]
            self.how = {name: how for name, how in self.how.items() if how not in ("failed", "barred")}
            for node in failed:  # their gates were passed before, and stay so
                self._decide(node, "wait_for")
            self.settle()

    def _pass(self) -> bool:
        moved = False
        for node in self.nodes:
            if node.name in self.how or node.name in self.open or not all(parent in self.how for parent in node.parents):
                continue
            moved = True
            parents = {self.how[parent] for parent in node.parents}
            if parents & {"failed", "barred"}:
                self.how[node.name] = "barred"
            elif "cancelled" in parents:
                self.how[node.name] = "cancelled"
            else:
                self._look(node)
        return moved

    def _look(self, node: Node) -> None:
        looks: dict[str, list[list[str]] | None] = {}
        for gate in GATES:
            groups = node.gates.get(gate, [] if gate == "wait_for" else [[False]])
            left = [[item for item in group if isinstance(item, str)] for group in groups if True not in group]
            looks[gate] = None if [] in left else left
        decided = next((gate for gate in GATES if looks[gate] == []), None)
        if decided:
            self._decide(node, decided)
        elif looks["wait_for"] is None:
            self.how[node.name] = "skipped"
        else:
            self.open[node.name] = {gate: left for gate, left in looks.items() if left is not None}

    def _decide(self, node: Node, gate: str) -> None:
        self.open.pop(node.name, None)
        if gate == "wait_for":
            self.runs[node.name] = self.runs.get(node.name, 0) + 1
            self.how[node.name] = "failed" if self.runs[node.name] <= node.failures else "completed"
        else:
            self.how[node.name] = "skipped" if gate == "skip_if" else "cancelled"

    def push(self, key: str) -> None:
        for node in self.nodes:
            gates = self.open.get(node.name, {})
            for gate, groups in gates.items():
                gates[gate] = [group for group in groups if key not in group]
            decided = next((gate for gate in GATES if gates.get(gate) == []), None)
            if decided:
                self._decide(node, decided)
        self.settle()

    @property
    def waits(self) -> list[str]:
        return sorted(key for gates in self.open.values() for groups in gates.values() for group in groups for key in group)


class Rig:
    def __init__(self, bench: Bench, nodes: list[Node], retries: int) -> None:
        self.bench, self.nodes, self.retries = bench, nodes, retries
        self.durable = self.engine()
        self.ref = self.durable.tasks["wf"].run(wait_for_result=False)

    def engine(self) -> Durable:
        durable = self.bench.durable()
        policy = EvictionPolicy(ttl=timedelta(seconds=1))
        wf = durable.workflow(name="wf", retries=self.retries, eviction_policy=policy)
        for node in self.nodes:
            parents = [wf.tasks[name] for name in node.parents]

            def condition(item: str | bool, parents: list[Any] = parents) -> Any:
                return (
                    UserEventCondition(item)
                    if isinstance(item, str)
                    else ParentCondition(parents[0], "true" if item else "false")
                )

            gates: dict[str, Any] = {
                gate: [or_(*map(condition, group)) for group in groups] for gate, groups in node.gates.items()
            }
            wf.task(name=node.name, parents=parents, **gates)(self.body(node))
        return durable

    def body(self, node: Node) -> Any:
        async def run(input: Any, ctx: Context) -> str:
            [(before,)] = self.bench.rows("SELECT count(*) FROM run WHERE task = ? AND status = 'FAILED'", f"wf:{node.name}")
            if before < node.failures:
                raise ValueError(node.name)
            return node.name

        return run

    def interrupt(self, how: str) -> None:
        if how == "evict" and self.bench.rows("SELECT 1 FROM wait"):
            wait_until(self.is_evicted, what="eviction")
        elif how in ("close", "crash"):
            if how == "crash":
                self.bench.crash()
            else:
                self.durable.close()
            self.durable = self.engine()
            settle(self.durable)
            self.ref = self.durable.runs.get_run_ref(self.ref.workflow_run_id)

    def is_evicted(self) -> bool:
        self.bench.clock.advance(2)
        return self.durable.runs.get(self.ref.workflow_run_id).is_evicted

    def keys(self) -> list[str]:
        return sorted(key for (key,) in self.bench.rows(OPEN))


def end_of(rig: Rig) -> Any:
    try:
        return rig.ref.result()
    except RunCancelledError:
        return "CANCELLED"
    except FailedTaskRunExceptionGroup as group:
        return {error.exc for error in group.exceptions if isinstance(error, TaskRunError)}
    except TaskRunError as error:
        return {error.exc}


@pytest.mark.parametrize("seed", range(25))
def test_a_random_graph_does_what_the_oracle_says(bench: Bench, seed: int) -> None:
    rng = random.Random(seed)
    nodes, retries = random_graph(rng), rng.choice([0, 0, 1, 2])
    oracle = Oracle(nodes, retries)
    rig = Rig(bench, nodes, retries)
    oracle.settle()
    for key in (*rng.choices(EVENTS, k=10), *EVENTS * 9):
        wait_until(lambda: rig.keys() == oracle.waits, what=f"waits {oracle.waits} of {nodes}")
        if not oracle.open:
            break
        rig.interrupt(rng.choice(["no", "no", "evict", "close", "crash"]))
        rig.durable.event.push(key)
        oracle.push(key)
    failed = {name for name, how in oracle.how.items() if how == "failed"}
    if failed:
        expected: Any = failed
    elif "cancelled" in oracle.how.values():
        expected = "CANCELLED"
    else:
        expected = {name: name if how == "completed" else SKIPPED for name, how in oracle.how.items()}
    assert end_of(rig) == expected
    ran = dict(bench.rows("SELECT substr(task, 4), count(*) FROM run WHERE parent = 1 GROUP BY task"))
    assert ran == oracle.runs
    twice = """SELECT node FROM checkpoint WHERE run = 1 GROUP BY node
               HAVING count(*) > 1 AND sum(kind = 'child') = 0 AND sum(abandoned) = 0"""
    assert bench.rows(twice) == []  # a retry asks for nothing anew but for what failed, and for gates that were given up
