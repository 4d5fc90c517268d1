"""Where the tasks of a workflow's graph are drawn: by Graphviz, where `dot` is there and quick; else pages lay them out themselves.

Invariant: nothing of a graph reaches `dot` but numbers, so no name can be read as markup or as a file; it has `SECONDS`, is asked once for each
shape, and whatever it does, the graph is drawn.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from durable_nb.views.words import brief

SECONDS = 2.0
LARGEST = 300  # tasks that `dot` is asked to lay out
WIDTH, HEIGHT = 172, 36  # of a task, pixels
GAP_ALONG, GAP_ACROSS = 44, 14  # pixels
PIXELS = 72.0  # an inch, as Graphviz counts

Shape = tuple[tuple[int, ...], ...]  # the parents of each task, by number


def placed(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Give a workflow's graph for a page.

    Args:
        plan: `parents` and `when` by task, as `tasks.workflow.plan_of` gives them.

    Returns:
        `tasks`: [name, numbers of the parents, when]; `at`: [x, y] of each in pixels from the top left, or None without `dot`.
    """
    numbers = {name: number for number, name in enumerate(plan)}
    shape = tuple(tuple(numbers[parent] for parent in part.get("parents", ()) if parent in numbers) for part in plan.values())
    tasks = [[brief(name, 80), list(parents), part.get("when", "parents")] for (name, part), parents in zip(plan.items(), shape, strict=True)]
    return {"tasks": tasks, "at": dot_positions(shape)}


@functools.lru_cache(maxsize=256)
def dot_positions(shape: Shape) -> Sequence[Sequence[float]] | None:
    """Give the top left corners that `dot` gives the tasks of a graph, or None where it gives none in time."""
    program = shutil.which("dot")
    if program is None or not 0 < len(shape) <= LARGEST:
        return None
    try:
        done = subprocess.run(  # noqa: S603  the program that shutil found, with no word of the user's
            [program, "-Tplain"], input=dot_source(shape), capture_output=True, text=True, timeout=SECONDS, check=True
        )
        return _corners(done.stdout, len(shape))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None  # a picture is not worth an error: the page lays it out


def dot_source(shape: Shape) -> str:
    """Give a graph of numbered boxes in Graphviz's language, from left to right."""
    size = f"width={WIDTH / PIXELS:.4f} height={HEIGHT / PIXELS:.4f}"
    lines = [
        "digraph {",
        f"rankdir=LR ordering=out nodesep={GAP_ACROSS / PIXELS:.4f} ranksep={GAP_ALONG / PIXELS:.4f}",
        f'node [shape=box fixedsize=true label="" {size}]',
        *(f"n{number}" for number in range(len(shape))),
        *(f"n{parent} -> n{number}" for number, parents in enumerate(shape) for parent in parents),
        "}",
    ]
    return "\n".join(lines)


def _corners(plain: str, count: int) -> list[list[float]]:
    height = 0.0
    found: dict[int, list[float]] = {}
    for words in (line.split() for line in plain.splitlines()):
        if words[:1] == ["graph"]:
            height = float(words[3])
        elif words[:1] == ["node"]:
            x, y = float(words[2]) * PIXELS, (height - float(words[3])) * PIXELS
            found[int(words[1][1:])] = [round(x - WIDTH / 2, 1), round(y - HEIGHT / 2, 1)]
    return [found[number] for number in range(count)]
