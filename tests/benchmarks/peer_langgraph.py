"""The same work on LangGraph with its SQLite saver: a node is a step, and its checkpoint is written before the next."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import TypedDict

from tests.benchmarks.measure import Measured, Meter, Setting, latencies

STEPS_OF_ONE = 20
THREADS = 16

Run = Callable[[str, int], int]


class State(TypedDict):
    """The graph's state: it counts up to a limit."""

    reached: int
    limit: int


def sequential(setting: Setting) -> Measured:
    """1 thread of a graph × 1,000 steps."""
    number = setting.count(1000, least=5)
    with compiled(setting) as run, Meter(setting.folder) as meter:
        assert run("one", number) == number
    return Measured(number, meter.figures(number))


def concurrent(setting: Setting) -> Measured:
    """100 threads of a graph × 20 steps, in a pool of Python's threads."""
    runs = setting.count(100, least=2)
    with compiled(setting) as run, ThreadPoolExecutor(THREADS) as pool, Meter(setting.folder) as meter:
        reached = list(pool.map(lambda index: run(f"run {index}", STEPS_OF_ONE), range(runs)))
    assert reached == [STEPS_OF_ONE] * runs
    return Measured(runs * STEPS_OF_ONE, meter.figures(runs * STEPS_OF_ONE))


def empty(setting: Setting) -> Measured:
    """Graphs of one step, one after another."""
    number, seconds = setting.count(1000, least=5), []
    with compiled(setting) as run, Meter(setting.folder) as meter:
        for index in range(number):
            began = time.perf_counter()
            assert run(f"run {index}", 1) == 1
            seconds.append(time.perf_counter() - began)
    return Measured(number, meter.figures(number) | latencies(seconds))


@contextmanager
def compiled(setting: Setting) -> Iterator[Run]:
    """Compile the graph over a new database; give what runs it in a thread of the given name."""
    from langgraph.checkpoint.sqlite import SqliteSaver
    from langgraph.graph import END, START, StateGraph

    def next_of(state: State) -> dict[str, int]:
        return {"reached": state["reached"] + 1}

    graph = StateGraph(State)
    graph.add_node("next_of", next_of)
    graph.add_edge(START, "next_of")
    graph.add_conditional_edges("next_of", lambda state: "next_of" if state["reached"] < state["limit"] else END)
    with closing(sqlite3.connect(setting.folder / "langgraph.db", check_same_thread=False)) as connection:
        app = graph.compile(checkpointer=SqliteSaver(connection))

        def run(thread: str, limit: int) -> int:
            config = {"configurable": {"thread_id": thread}, "recursion_limit": limit + 10}
            return int(app.invoke({"reached": 0, "limit": limit}, config, durability="sync")["reached"])

        run("warm", 2)
        yield run
