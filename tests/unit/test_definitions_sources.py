"""Where a function's text is found: cells, magics, scripts, line ends; and that local modules are watched."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from durable_nb.definitions import Definition, Import, capture, notes, rebuild
from durable_nb.definitions.origins import local_hash
from tests.unit.test_definitions import Notebook, notebook, nothing

__all__ = ["notebook"]  # the fixture

CELL = "LIMIT = 3\n\n@(lambda f: f)\ndef task(x):\n    return x + LIMIT"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param("%load_ext something\n{}", id="line magic"),
        pytest.param("!pip install this\nfiles = !ls\n{}", id="shell"),
        pytest.param("%%durable_task --retries 3\n{}", id="cell magic"),
        pytest.param("{}\ntask?\n", id="help"),
    ],
)
def test_magics_elsewhere_in_the_cell_do_not_matter(notebook: Notebook, raw: str) -> None:
    notebook.cell(CELL)
    source = raw.format(CELL)
    definition = notebook.capture("task", source=source)
    assert definition.source == "def task(x):\n    return x + LIMIT"
    assert source.split("\n")[definition.first_line - 1] == "def task(x):"
    assert definition.version == notebook.capture("task").version


def test_a_magic_inside_the_function_leaves_the_text_that_ipython_made_of_it(notebook: Notebook) -> None:
    notebook.cell("get_ipython = print\ndef task():\n    get_ipython('ls')")
    assert (
        notebook.capture("task", source="get_ipython = print\ndef task():\n    !ls").source
        == "def task():\n    get_ipython('ls')"
    )


def test_text_that_looks_like_a_magic_stays_as_it_is(notebook: Notebook) -> None:
    body = "def task():\n    return '''\n%time\n!ls\n'''"
    notebook.cell(body)
    assert notebook.capture("task", source=f"%time\n{body}").source == body


def test_classes_below_a_cell_magic_are_found_in_the_list_of_cells(notebook: Notebook) -> None:
    inner = "class Order:\n    limit: int = 3\n"
    notebook.cell(inner, raw=f"get_ipython().run_cell_magic('time', '', {inner!r})\n")
    notebook.cell("def task(): return Order.limit")
    assert notebook.restored("task")() == 3


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_of_other_systems(notebook: Notebook, end: str) -> None:
    notebook.cell(CELL)
    definition = notebook.capture("task", source=CELL.replace("\n", end))
    assert definition == notebook.capture("task")


def test_page_breaks_and_line_separators_are_no_line_ends(notebook: Notebook) -> None:
    notebook.cell("A = '\u2028'\n\x0c\ndef task():\n    return A + '\x0b\u2028\x1c'  # \x85")
    definition = notebook.capture("task")
    assert definition.first_line == 3
    assert notebook.restored("task")() == "\u2028\x0b\u2028\x1c"


def test_a_text_of_many_lines_keeps_its_margin(notebook: Notebook) -> None:
    notebook.cell("if True:\n    def task(x):\n        return f'''a\n    b{x}\n''' + \\\n    'c'")
    assert notebook.restored("task")(1) == "a\n    b1\nc"


def test_the_function_on_its_own_line_is_taken_among_several_of_one_name(notebook: Notebook) -> None:
    notebook.cell("def task(x): return 1\nfirst = task\ndef task(x): return 2")
    assert capture(notebook.namespace["first"]).source.endswith("return 1")
    assert notebook.capture("task").source.endswith("return 2")


# ---------------------------------------------------------------- scripts and local modules

FLOW = """
from __future__ import annotations
from dataclasses import dataclass
import helpers_of_flow as h

@dataclass
class Order:
    n: int

def double(x): return 2 * x * h.FACTOR

def keep(f): return f

@keep
def task(n: int): return double(Order(n).n)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("flow", "helpers_of_flow"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "helpers_of_flow.py").write_text("FACTOR = 1\n")
    (tmp_path / "flow.py").write_text(FLOW)
    return tmp_path


def test_notebook_script_and_imported_script_have_one_version(notebook: Notebook, folder: Path) -> None:
    notebook.cell(FLOW)
    imported = capture(importlib.import_module("flow").task)
    run = "from durable_nb.definitions import capture\nprint(capture(task).to_json())"
    (folder / "main.py").write_text(f"{FLOW}\n{run}")
    done = subprocess.run(
        [sys.executable, str(folder / "main.py")],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "SYSTEMROOT": "C:\\Windows"},
    )
    script = Definition.from_json(done.stdout)
    assert imported.version == script.version == notebook.capture("task").version
    for definition in (imported, script):
        assert definition.is_restorable
        assert rebuild(definition, resolve=nothing, filename="<flow>")(2) == 4


def test_a_local_module_that_changed_is_a_note_and_a_new_version(notebook: Notebook, folder: Path) -> None:
    notebook.cell("import helpers_of_flow as h\ndef task(): return h.FACTOR")
    definition = notebook.capture("task")
    assert definition.bindings == (Import(name="h", module="helpers_of_flow", sha256=local_hash("helpers_of_flow")),)
    assert notes(rebuild(definition, resolve=nothing, filename="<t>")) == ()
    (folder / "helpers_of_flow.py").write_text("FACTOR = 1000\n")
    function = rebuild(definition, resolve=nothing, filename="<t>")
    assert notes(function) == (
        "The local module `helpers_of_flow` has changed since the task was defined; the task uses it as it is now.",
    )
    assert notebook.capture("task").version != definition.version


def test_a_local_package_counts_with_all_its_files_and_line_ends_do_not(folder: Path) -> None:
    package = folder / "pack"
    package.mkdir()
    (package / "__init__.py").write_bytes(b"a = 1\n")
    (package / "part.py").write_bytes(b"b = 1\n")
    importlib.import_module("pack")
    first = local_hash("pack")
    (package / "part.py").write_bytes(b"b = 1\r\n")
    assert local_hash("pack") == first
    (package / "part.py").write_bytes(b"b = 2\n")
    assert local_hash("pack") not in {first, None}
    del sys.modules["pack"]


def test_installed_modules_are_not_hashed() -> None:
    assert local_hash("json") is local_hash("pydantic") is local_hash("sys") is local_hash("no.such.module") is None


@pytest.mark.slow
def test_a_real_kernel_session_is_restored_in_another_process(tmp_path: Path) -> None:
    session = tmp_path / "session.py"
    session.write_text(
        """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
def cell(text):
    shell.run_cell(text, store_history=True).raise_error()
cell("from pydantic import BaseModel\\nimport numpy as np, math as m\\nfrom typing import Literal")
cell("Mode = Literal['a', 'b']\\nclass Line(BaseModel):\\n    mode: Mode = 'a'\\n    n: int = 1")
cell("class Order(BaseModel):\\n    lines: list[Line]\\n    def total(self): return sum(x.n for x in self.lines)")
cell("%%capture out\\nclass Extra(BaseModel):\\n    n: int = 5")
cell("%pwd\\nfiles = !echo hi\\n\\nasync def task(order: Order):\\n    display(order.total())\\n"
     "    words = !echo hi\\n    return int(np.sum([order.total(), Extra().n])), list(words), m.pi > 3")
from durable_nb.definitions import capture
print("JSON" + capture(shell.user_ns["task"]).to_json())
"""
    )
    root = str(Path(__file__).parents[2])
    env = {"PYTHONPATH": root, "IPYTHONDIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, str(session)], capture_output=True, text=True, check=True, env=env)
    text = next(line for line in done.stdout.splitlines() if line.startswith("JSON")).removeprefix("JSON")
    definition = Definition.from_json(text)
    assert [str(loss) for loss in definition.lost] == []
    assert definition.first_line == 4
    other = tmp_path / "other.py"
    other.write_text(
        """
import asyncio, sys, types
import IPython
IPython.get_ipython = lambda: types.SimpleNamespace(getoutput=lambda command: [command])
from durable_nb.definitions import Definition, rebuild
function = rebuild(Definition.from_json(sys.stdin.read()), resolve={}.__getitem__, filename="<durable task>")
Order = function.__annotations__["order"]
print(asyncio.run(function(Order.model_validate({"lines": [{"n": 2}, {"mode": "b"}]}))))
"""
    )
    done = subprocess.run([sys.executable, str(other)], input=text, capture_output=True, text=True, check=True, env=env)
    assert done.stdout.splitlines() == ["3", "(8, ['echo hi'], True)"]


def test_looking_for_an_import_loads_nothing_lazily(notebook: Notebook, folder: Path) -> None:
    (folder / "lazy_one.py").write_text(
        "class Thing: pass\ndef __getattr__(name):\n    raise SystemExit if name == 'heavy' else AttributeError\n"
    )
    notebook.cell("from lazy_one import Thing as T\nfrom lazy_one import Thing\nheavy = T()\ndef task(): return heavy, T")
    definition = notebook.capture("task")
    assert [loss.name for loss in definition.lost] == ["heavy"]
    assert [binding.name for binding in definition.bindings] == ["T"]
    del sys.modules["lazy_one"]
