"""The house stands as CONTRIBUTING.md draws it: imports run downward, the engine knows no IPython, no room is too large."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "durable_nb"
MODULES = sorted(PACKAGE.rglob("*.py"))
# From the ground up; a floor may import from those below it and from its own. `client` is what users hold, above the engine.
FLOORS = ["errors", "tasks", "log", "engine", "definitions", "backends", "client", "testing", "views", "notebook"]
ON_TOP = {"notebook", "bundles", "export", "cli"}  # ways in and out for people, on one floor
JUPYTER = {"IPython", "ipykernel", "ipywidgets", "anywidget", "jupyter_client", "traitlets"}


def imports(path: Path) -> Iterator[str]:
    """Give the modules that a file imports when it runs, those for type checkers only left out."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        todo += ast.iter_child_nodes(node)


def floor(module: str) -> str:
    """Give the floor of a module of ours."""
    name = module.split(".")[1]
    return "notebook" if name in ON_TOP else name


def name(path: Path) -> str:
    """Give a file's module name."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=[str(path.relative_to(PACKAGE)) for path in MODULES])
def test_imports_run_downward_and_rooms_are_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 420, "two concepts in one room?"
    if path.parent == PACKAGE and path.stem in ("__init__", "__main__"):
        return
    here = floor(name(path))
    ours = [module for module in imports(path) if module.startswith("durable_nb.")]
    above = [module for module in ours if FLOORS.index(floor(module)) > FLOORS.index(here)]
    allowed = (
        {"durable_nb.definitions.trust", "durable_nb.views.desk", "durable_nb.views.run_view"} if here == "client" else set()
    )
    assert not set(above) - allowed
    if here in ("errors", "tasks", "log", "engine", "definitions", "backends", "client", "testing"):
        assert not {module.split(".")[0] for module in imports(path)} & JUPYTER
