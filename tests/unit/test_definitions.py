"""A task function is captured with what it needs and, rebuilt in a namespace of its own, does what it did in its cell."""

from __future__ import annotations
import __future__

import asyncio
import linecache
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

import pytest

from durable_nb.definitions import (
    Code,
    Constant,
    Definition,
    FromImport,
    Import,
    Reference,
    bind,
    capture,
    discard,
    rebuild,
    unbound,
)
from durable_nb.errors import DeclarationError


@dataclass(eq=False)
class Task:
    """What the host makes of a function."""

    name: str
    function: FunctionType
    definition: Definition

    def run(self, *args: object) -> Any:
        return self.function(*args)


class App:
    """A host in small: its decorator captures, and it binds itself and its tasks again."""

    def __init__(self) -> None:
        self.tasks: dict[str, Task] = {}

    def task(self, *_names: object, **_options: object) -> Callable[[FunctionType], Task]:
        def declare(function: FunctionType) -> Task:
            references = {id(self): "app"} | {id(task): f"task:{name}" for name, task in self.tasks.items()}
            definition = capture(function, references=references)
            self.tasks[function.__name__] = Task(function.__name__, function, definition)
            return self.tasks[function.__name__]

        return declare

    def resolve(self, reference: str) -> object:
        return self if reference == "app" else self.tasks[reference.removeprefix("task:")]


@dataclass
class Notebook:
    """Cells executed as IPython does it: cached for tracebacks, compiled with the session's `__future__` flags, kept in `In`."""

    namespace: dict[str, Any] = field(default_factory=dict)
    flags: int = 0
    files: list[str] = field(default_factory=list)

    def cell(self, text: str, raw: str | None = None) -> None:
        text = textwrap.dedent(text)
        filename = f"<ipython-input-{len(self.files) + 1}-{id(self):x}>"
        self.files.append(filename)
        linecache.cache[filename] = (len(text), None, [f"{line}\n" for line in text.split("\n")], filename)
        self.namespace["In"].append(text if raw is None else raw)
        compiled = compile(text, filename, "exec", flags=self.flags, dont_inherit=True)
        self.flags |= compiled.co_flags & __future__.annotations.compiler_flag
        exec(compiled, self.namespace)

    def capture(self, name: str, source: str | None = None) -> Definition:
        return capture(self.namespace[name], source=source)

    def restored(self, name: str) -> Any:
        """The function as it is after a restart, when only the log's JSON is left."""
        definition = Definition.from_json(self.capture(name).to_json())
        assert definition.is_restorable, [str(loss) for loss in definition.lost]
        return rebuild(definition, resolve=nothing, filename=f"<durable {name}>")


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    before = set(sys.modules)
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    notebook = Notebook(vars(main))
    notebook.namespace["In"] = [""]
    yield notebook
    for filename in notebook.files:
        linecache.cache.pop(filename, None)
    for name in set(sys.modules) - before:
        if name.startswith("durable_nb.restored."):
            del sys.modules[name]


def assert_same_after_restart(notebook: Notebook, text: str) -> None:
    """Run the cells of `text`, the last of which calls `task`: live and restored, it must give the same."""
    *cells, call = text.split("# %%\n")
    for cell in cells:
        notebook.cell(cell)
    restored = notebook.restored("task")
    expected = eval(call.strip(), notebook.namespace)
    notebook.namespace.clear()
    assert repr(eval(call.strip(), {"task": restored})) == repr(expected)


def nothing(reference: str) -> object:
    """A host that has nothing to bind (yet)."""
    raise KeyError(reference)


def bindings(definition: Definition) -> dict[str, object]:
    return {binding.name: binding for binding in definition.bindings}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="PEP 695")
def test_type_statements_and_type_parameters(notebook: Notebook) -> None:
    notebook.cell("from pydantic import TypeAdapter\nclass Base: pass\ntype Ids = list[Key]\ntype Key = int")
    notebook.cell("def first[T: Base](xs: list[T]) -> T: return xs[0]\nclass Box[T]:\n    def get(self, x: T) -> T: return x")
    notebook.cell("def task(xs: Ids): return first(TypeAdapter(Ids).validate_python(xs)), Box().get(1)")
    assert notebook.restored("task")(["7"]) == (7, 1)


def test_async_functions_and_async_generators(notebook: Notebook) -> None:
    notebook.cell("import asyncio\nasync def parts(n):\n    for i in range(n):\n        await asyncio.sleep(0)\n        yield i")
    notebook.cell("async def task(n): return [i async for i in parts(n)]")
    assert asyncio.run(notebook.restored("task")(3)) == [0, 1, 2]


def test_bindings_say_what_each_name_is(notebook: Notebook) -> None:
    notebook.cell("import json as j\nfrom collections import OrderedDict as OD\nN = 3\ndef helper(): return N")
    notebook.cell("def task(): return j, OD, helper()")
    definition = notebook.capture("task")
    assert definition.bindings == (
        Import(name="j", module="json"),
        FromImport(name="OD", module="collections", attribute="OrderedDict"),
        Constant(name="N", value="3"),
        Code(name="helper", source="def helper(): return N", first_line=4),
    )
    assert (definition.name, definition.source, definition.first_line) == ("task", "def task(): return j, OD, helper()", 1)


def test_what_the_notebook_changes_later_does_not_reach_the_task(notebook: Notebook) -> None:
    notebook.cell("N = 1\nITEMS = [1]\ndef helper(): return 'first'")
    notebook.cell("def task(): return N, ITEMS, helper()")
    definition = notebook.capture("task")
    notebook.cell("N = 2\nITEMS.append(2)\ndef helper(): return 'second'")
    assert rebuild(definition, resolve=nothing, filename="<durable task>")() == (1, [1], "first")
    assert notebook.restored("task")() == (2, [1, 2], "second")


def test_the_latest_of_several_classes_of_one_name_is_taken(notebook: Notebook) -> None:
    first = "from dataclasses import dataclass\n@dataclass\nclass A:\n    n: int = 1"
    notebook.cell(first)
    notebook.cell(first.replace("n: int = 1", "n: int = 2"))
    notebook.cell(first)  # run again, as it was
    notebook.cell("def task(): return A().n")
    assert notebook.restored("task")() == 1


def test_public_import_paths_are_preferred(notebook: Notebook) -> None:
    notebook.cell("import pandas as pd\nFrame = pd.DataFrame\nfrom heapq import heappush\ndef task(): return Frame, heappush")
    found = bindings(notebook.capture("task"))
    assert found["Frame"] == FromImport(name="Frame", module="pandas", attribute="DataFrame")
    assert found["heappush"] == FromImport(name="heappush", module="heapq", attribute="heappush")


# ---------------------------------------------------------------- decorators and references


def test_the_tasks_decorators_are_stripped_and_its_references_bound_again(notebook: Notebook) -> None:
    app = notebook.namespace["durable"] = App()
    notebook.cell("@durable.task(retries=3)\ndef child(x): return x + 1")
    notebook.cell("\n@durable.task(\n    retries=1,\n)\ndef parent(x):\n    return durable, child, child.run(x), parent")
    definition = app.tasks["parent"].definition
    assert definition.source.startswith("def parent(x):") and definition.first_line == 5
    assert definition.bindings == (
        Reference(name="child", target="task:child"),
        Reference(name="durable", target="app"),
        Reference(name="parent", target="self"),
    )
    me = object()
    function = rebuild(definition, resolve=lambda name: me if name == "self" else app.resolve(name), filename="<p>")
    assert function(1) == (app, app.tasks["child"], 2, me)


def test_tasks_that_call_each_other_are_bound_when_both_are_there(notebook: Notebook) -> None:
    app = notebook.namespace["durable"] = App()
    cells = "@durable.task()\ndef ping(n): return pong.run(n)", "@durable.task()\ndef pong(n): return n and ping.run(n - 1)"
    notebook.cell(cells[0])
    alone = app.tasks["ping"].definition
    assert [loss.name for loss in alone.lost] == ["pong"]
    notebook.cell(cells[1])
    notebook.cell(cells[0])
    ping, pong = app.tasks["ping"], app.tasks["pong"]
    assert ping.definition.is_restorable and ping.definition.version == alone.version
    ping.function = rebuild(ping.definition, resolve=nothing, filename="<ping>")
    assert unbound(ping.function) == {"pong": "task:pong"}
    with pytest.raises(NameError, match="pong"):
        ping.run(1)
    pong.function = rebuild(pong.definition, resolve=app.resolve, filename="<pong>")
    bind(ping.function, "pong", pong)
    assert unbound(ping.function) == {} and ping.run(3) == 0


def test_a_decorator_below_the_tasks_own_is_part_of_the_task(notebook: Notebook) -> None:
    app = notebook.namespace["durable"] = App()
    notebook.cell(
        "import functools\ndef loud(f):\n    @functools.wraps(f)\n    def inner(x): return f(x).upper()\n    return inner"
    )
    notebook.cell("@durable.task(loud)\n@loud\ndef task(x): return x")
    definition = app.tasks["task"].definition
    assert definition.source == "@loud\ndef task(x): return x" and definition.first_line == 2
    assert rebuild(definition, resolve=app.resolve, filename="<t>")("a") == "A"
    with pytest.raises(DeclarationError, match=r"wrapped by a call.*decorator below"):
        notebook.cell("@durable.task()\ndef bare(x): return x\ndurable.task()(loud(bare.function))")


def test_a_wrapped_function_of_a_magic_keeps_its_decorators(notebook: Notebook) -> None:
    notebook.cell(
        "import functools\ndef loud(f):\n    @functools.wraps(f)\n    def inner(x): return f(x).upper()\n    return inner"
    )
    notebook.cell("@loud\ndef task(x): return x")
    assert notebook.restored("task")("a") == "A"


# ---------------------------------------------------------------- the namespace


def test_tracebacks_show_the_lines_of_the_cell(notebook: Notebook) -> None:
    notebook.cell("# one\n\ndef helper():\n    raise KeyError('x')  # here")
    notebook.cell("# one\n@(lambda f: f)\n# why\ndef task():\n    # two\n    return helper()  # there")
    with pytest.raises(KeyError) as caught:
        notebook.restored("task")()
    frames = traceback.extract_tb(caught.value.__traceback__)[-2:]
    assert [(frame.filename, frame.lineno, frame.line) for frame in frames] == [
        ("<durable task>", 6, "return helper()  # there"),
        ("<durable task: helper>", 4, "raise KeyError('x')  # here"),
    ]


def test_each_rebuild_has_a_namespace_of_its_own(notebook: Notebook) -> None:
    notebook.cell("ITEMS = [1]\nclass A: pass\ndef task(x):\n    ITEMS.append(x)\n    return ITEMS, A")
    definition = notebook.capture("task")
    one, two = (rebuild(definition, resolve=nothing, filename=f"<{number}>") for number in (1, 2))
    assert one(2)[0] == [1, 2] and two(3)[0] == [1, 3]
    assert one.__module__ != two.__module__ and sys.modules[one.__module__].task is one
    assert one(2)[1] is not two(2)[1] and one(2)[1].__module__ == one.__module__
    discard(one)
    assert one.__module__ not in sys.modules and "<1>" not in linecache.cache and "<2>" in linecache.cache


def test_names_of_the_namespaces_own_bookkeeping_are_free_for_the_task(notebook: Notebook) -> None:
    notebook.cell("_notes = _files = _unbound = 3\ndef task(): return _notes + _files + _unbound")
    assert notebook.restored("task")() == 9


def test_a_rebuild_that_fails_says_at_what_and_leaves_nothing_behind(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook.cell("import colorsys\ndef task(): return colorsys")
    definition = notebook.capture("task")
    before = set(sys.modules)
    monkeypatch.setitem(sys.modules, "colorsys", None)
    with pytest.raises(
        DeclarationError, match="`task` could not be restored: binding `colorsys` failed with ModuleNotFoundError"
    ) as error:
        rebuild(definition, resolve=nothing, filename="<gone>")
    assert "run the task's cell again" in str(error.value)
    assert set(sys.modules) - before == set() and "<gone>" not in linecache.cache


def test_bind_needs_a_rebuilt_function() -> None:
    with pytest.raises(DeclarationError, match="was not rebuilt"):
        bind(bindings, "x", 1)  # type: ignore[arg-type]


def test_a_function_that_was_renamed_keeps_the_name_of_its_source(notebook: Notebook) -> None:
    notebook.cell("def task(n): return n and task(n - 1)\ntask.__name__ = task.__qualname__ = 'shown'")
    definition = notebook.capture("task")
    assert definition.name == "task" and definition.bindings == (Reference(name="task", target="self"),)
    assert rebuild(definition, resolve=nothing, filename="<t>")(0) == 0
