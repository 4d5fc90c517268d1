"""The front-end's modules: their logic under node's own test runner, and how they are joined into one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from durable_nb.views import web
from durable_nb.views.inbox_view import InboxView
from durable_nb.views.run_view import RunView
from durable_nb.views.runs_view import RunsView

WEB = Path(web.__file__).parent
TESTS = Path(__file__).parents[1] / "web"
MODULES = sorted(path.name for path in WEB.glob("*.mjs"))
SAID = re.compile(r"^[ \t]*(?:import|export)\b.*", re.MULTILINE)
PUTS_MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment|\beval\b|new Function"
)
NODE = shutil.which("node")


@pytest.mark.skipif(NODE is None, reason="node is not installed; CI installs it")
def test_their_logic() -> None:
    tests = sorted(str(path) for path in TESTS.glob("*.test.mjs"))
    assert NODE is not None
    done = subprocess.run([NODE, "--test", *tests], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", MODULES)
def test_each_is_written_so_that_it_can_be_joined_and_small(name: str) -> None:
    source = web.text(name)
    understood = [match[0] for form in (web.IMPORT, web.EXPORT, web.DEFAULT) for match in form.finditer(source)]
    for match in SAID.finditer(source):
        assert any(match[0].startswith(form.splitlines()[0]) for form in understood), match[0]
    assert len(source.splitlines()) <= 420


@pytest.mark.parametrize("name", MODULES)
def test_none_makes_markup_of_text(name: str) -> None:
    assert not PUTS_MARKUP.search(web.text(name))


@pytest.mark.parametrize("path", [*WEB.glob("*.mjs"), *WEB.glob("*.css")], ids=lambda path: path.name)
def test_none_asks_anything_of_another_host(path: Path) -> None:
    assert "//" not in re.sub(
        r"^\s*//.*$|(?<=\s)// .*$|http://www\.w3\.org/2000/svg", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE
    )


def test_a_module_is_joined_with_what_it_imports_once(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "a.mjs": 'import { one } from "./b.mjs";\nimport {\n  two,\n} from "./c.mjs";\nexport default { value: one + two };\n',
        "b.mjs": 'import { two } from "./c.mjs";\nexport const one = two - 1;\n',
        "c.mjs": "export const two = 2;\n",
    }
    monkeypatch.setattr(web, "text", files.__getitem__)
    joined = web.module("a.mjs")
    assert joined.count("const two = 2") == 1
    assert joined.endswith("export default $a.$default;\n")
    if NODE is not None:
        shown = joined.replace("export default $a.$default;", "console.log($a.$default.value);")
        done = subprocess.run([NODE, "-e", shown], capture_output=True, text=True, check=True, timeout=60)
        assert done.stdout == "3\n"


def test_no_class_is_styled_by_two_sheets() -> None:
    """All sheets of a page apply to all views in it, so a name in two of them would dress one view's parts as the other's."""
    named = {path.name: set(re.findall(r"\.(dnb-[\w-]+)", path.read_text(encoding="utf-8"))) for path in WEB.glob("*.css")}
    shared = named.pop("theme.css")
    twice = {name for sheet, names in named.items() for other in named if other != sheet for name in names & named[other]}
    assert twice - shared == set()


def test_no_part_wears_a_class_that_is_dressed_for_another_view() -> None:
    def classes(text: str) -> set[str]:
        return set(re.findall(r"\.(dnb-[\w-]+)", text))

    views: dict[str, Any] = {"inbox.mjs": InboxView, "runs.mjs": RunsView, "run.mjs": RunView}
    dressed: dict[str, set[str]] = {}  # by module, the classes of the sheets that come with it
    for name, view in views.items():
        scopes: dict[str, str] = {}
        web._collect(name, scopes)
        for module in scopes:
            dressed.setdefault(module, set()).update(classes(str(view._css)))
    everywhere = set().union(*(classes(path.read_text(encoding="utf-8")) for path in WEB.glob("*.css")))
    for module, own in dressed.items():
        assert set(re.findall(r"\bdnb-[\w-]+", web.text(module))) & everywhere - own == set(), module
