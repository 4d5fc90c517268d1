"""What cannot be kept is named when the task is defined, in a sentence with the way out."""

from __future__ import annotations

import pytest

from durable_nb.definitions import Definition, rebuild, unbound
from durable_nb.errors import DeclarationError
from tests.unit.test_definitions import Notebook, notebook, nothing

__all__ = ["notebook"]  # the fixture

PASS_IT = "pass it as input, make it in a child task, or read it inside the task"

# Name, the cell that makes it, and the sentence about it.
LOSSES = {
    "frame": (
        "import pandas\nframe = pandas.DataFrame({'a': [1]})",
        f"`frame` (pandas.DataFrame), which `task` uses on line 3, cannot be kept with the task: {PASS_IT}.",
    ),
    "array": ("import numpy\narray = numpy.zeros(3)", f"`array` (numpy.ndarray), which `task` uses on line 3, {{}}: {PASS_IT}."),
    "lock": ("import asyncio\nlock = asyncio.Lock()", "`lock` (asyncio.Lock), which {}: open it inside the task."),
    "stream": ("import io\nstream = io.StringIO()", "`stream` (io.StringIO), which {}: open it inside the task."),
    "numbers": ("numbers = (n for n in [1])", f"`numbers` (generator), which {{}}: {PASS_IT}."),
    "big": ("big = 'x' * 70_000", f"`big` (str), which {{}}: it is larger than 64 KiB, so {PASS_IT}."),
    "many": ("many = list(range(10**7))", f"`many` (list), which {{}}: it is larger than 64 KiB, so {PASS_IT}."),
    "mixed": ("mixed = [object()]", f"`mixed` (list), which {{}}: {PASS_IT}."),
    "itself": ("itself = []\nitself.append(itself)", f"`itself` (list), which {{}}: {PASS_IT}."),
    "order": (
        "class Order: pass\norder = Order()",
        "`order` (Order), which {}: build it inside the task or in a helper function that it calls.",
    ),
    "picked": ("picked = [lambda x: x][0]", "`picked` (function), which {}: define it with `def` at the top of a cell"),
    "added": ("def make(n):\n    return lambda x: x + n\nadded = make(1)", "`added` (function), which {}: define it with `def`"),
    "late": (
        "import functools\ndef late(): pass\nlate = functools.lru_cache(late)",
        "`late` (functools._lru_cache_wrapper), which {}: def",
    ),
    "counting": (
        "def counting(): pass\ncounting.calls = 0",
        "`counting` (function), which {}: the attributes set on it from outside",
    ),
    "shown": (
        "import functools\n@functools.singledispatch\ndef shown(x): pass\n@shown.register\ndef _(x: int): pass",
        "`shown` (function), which {}: what was registered on it is lost on rebuild",
    ),
    "Made": ("(Made,) = [type('Made', (), {})]", "`Made` (type), which {}: define it with `class` or as `Name = ...`"),
    "mod": ("import types\nmod = types.ModuleType('mod')", "`mod` (module), which {}: save the module to a file"),
    "later": ("", "`later`, which `task` uses on line 3, is not defined: define it before this cell."),
}


def losses(notebook: Notebook, name: str = "task") -> list[str]:
    return [str(loss) for loss in Definition.from_json(notebook.capture(name).to_json()).lost]


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_names_the_variable_its_type_the_line_and_the_way_out(notebook: Notebook, name: str) -> None:
    made, sentence = LOSSES[name]
    notebook.cell(made)
    notebook.cell(f"# a comment\ndef task():\n    return {name}, {name}")
    (found,) = losses(notebook)
    what = "cannot be kept with the task" if " line 3, {}" in sentence else "`task` uses on line 3, cannot be kept with the task"
    assert found.startswith(sentence.format(what))
    assert found.endswith(".")


def test_a_loss_in_a_helper_names_the_helper_and_its_line(notebook: Notebook) -> None:
    notebook.cell("import io\nbuffer = io.StringIO()\n\ndef helper():\n    return buffer")
    notebook.cell("def task(): return helper()")
    assert losses(notebook) == [
        "`buffer` (io.StringIO), which `helper` uses on line 5, cannot be kept with the task: open it inside the task."
    ]


def test_a_closure_over_a_live_object_is_a_loss(notebook: Notebook) -> None:
    notebook.cell("def make(thing):\n    def task():\n        return thing\n    return task\ntask = make(object())")
    assert losses(notebook)[0].startswith("`thing` (object), which `task` uses on line 3")


def test_a_method_is_no_task_by_itself(notebook: Notebook) -> None:
    notebook.cell("class A:\n    def task(self): return super().__repr__()\ntask = A.task")
    assert losses(notebook)[0].endswith("a method is no task by itself, so define the task as a function at the top of a cell.")


def test_one_name_with_two_meanings_is_a_loss(notebook: Notebook) -> None:
    notebook.cell(
        "def make(n):\n    def helper(): return n\n    return helper\nn = 1\nhelper = make(2)\ndef task(): return n, helper()"
    )
    assert losses(notebook)[0].startswith("`n` (int), which `helper` uses on line 2")
    assert "rename one of the two" in losses(notebook)[0]


@pytest.mark.parametrize(
    "cell",
    [
        "def task(x: 'Nowhere', y: list['Nowhere'] = None): pass",
        "from typing import Literal, Annotated\ndef task(x: Literal['frame'], y: Annotated[int, 'frame']): pass",
        "def task():\n    frame = 1\n    return [frame for frame in (frame,)]",
        "def task():\n    x: frame = 1\n    return x",
        "def task():\n    global made\n    made = 1\n    return made",
        "class A:\n    name: str = 'x'\n    def frames(self): return self.frame\ndef task(): return A().frames",
        "def task(x):\n    match x:\n        case {'a': late, **later}: return later\n        case [big, *many]: return big",
        "def task():\n    try: pass\n    except ValueError as later: return later\n    import os.path as late\n    return late",
    ],
)
def test_names_that_are_never_looked_up_are_no_loss(notebook: Notebook, cell: str) -> None:
    notebook.cell(cell)
    assert losses(notebook) == []


def test_names_of_annotations_are_kept_where_they_mean_something(notebook: Notebook) -> None:
    notebook.cell("from __future__ import annotations\nfrom decimal import Decimal as D\nimport io\nframe = io.StringIO()")
    notebook.cell("def task(x: D, y: 'frame'): pass")
    assert [binding.name for binding in notebook.capture("task").bindings] == ["D"]
    assert losses(notebook)[0].startswith("`frame` (io.StringIO)")


def test_until_the_restart_a_task_with_losses_uses_the_live_objects(notebook: Notebook) -> None:
    notebook.cell("live = [object()]\nN = 1\nclass Base:\n    items = live\ndef task(): return live, N, Base.items, later")
    definition = notebook.capture("task")
    live = notebook.namespace["live"]
    with pytest.raises(DeclarationError, match=r"`task` cannot be restored. `later`.* `live` \(list\).*Run its cell again"):
        rebuild(definition, resolve=nothing, filename="<t>")
    function = rebuild(definition, resolve=nothing, filename="<t>", live=notebook.namespace["task"])
    assert unbound(function) == {"later": ""}
    notebook.cell("N = 2")
    vars(__import__("sys").modules[function.__module__])["later"] = 3
    found = function()
    assert found == (live, 1, live, 3) and found[0] is live and found[2] is live


def test_what_is_no_function_with_a_source_is_refused(notebook: Notebook) -> None:
    notebook.cell("anonymous = lambda: 1")
    with pytest.raises(DeclarationError, match=r"a task is a function with a name. Define it with `def`"):
        notebook.capture("anonymous")
    notebook.namespace["number"] = 3
    with pytest.raises(DeclarationError, match=r"3 cannot be a task"):
        notebook.capture("number")
    exec("def hidden(): pass", notebook.namespace)
    with pytest.raises(DeclarationError, match=r"source of `hidden` was not found.*in a notebook cell or a file"):
        notebook.capture("hidden")
