"""The front-end: small ES modules and style sheets, and how they become the one text that anywidget takes.

anywidget loads a view's module from a single text, so modules that import one another are joined here, without a build
step: each becomes the scope of a function, so that their names never meet. Only these forms are understood, and a test
holds every module to them: ``import { a, b } from "./other.mjs";``, ``export`` before a function, class or const, and, in the
module of a view, ``export default``.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

IMPORT = re.compile(r'^import \{\s*([\w\s,]+?)\s*\} from "\./([\w-]+\.mjs)";$', re.MULTILINE)
EXPORT = re.compile(r"^export (?=(?:async )?(?:function\*?|const|class) (\w+))", re.MULTILINE)
DEFAULT = re.compile(r"^export default ", re.MULTILINE)


def text(name: str) -> str:
    """Give a file of this folder."""
    return (resources.files(__name__) / name).read_text(encoding="utf-8")


@cache
def module(name: str) -> str:
    """Give a view's module with all that it imports, as one module whose default export is the view's."""
    scopes: dict[str, str] = {}
    _collect(name, scopes)
    return "\n".join([*scopes.values(), f"export default {_variable(name)}.$default;\n"])


@cache
def styles(*names: str) -> str:
    """Give style sheets as one, the theme first."""
    return "\n".join(text(name) for name in ("theme.css", *names))


def _collect(name: str, scopes: dict[str, str]) -> None:
    """Add the scope of a module after those of what it imports."""
    source = text(name)
    for match in IMPORT.finditer(source):
        if match[2] not in scopes:
            _collect(match[2], scopes)
    names = [match[1] for match in EXPORT.finditer(source)]
    body, defaults = DEFAULT.subn("const $default = ", EXPORT.sub("", source))
    body = IMPORT.sub(lambda match: f"const {{ {match[1]} }} = {_variable(match[2])};", body)
    given = ", ".join([*names, *["$default"] * defaults])
    scopes[name] = f"const {_variable(name)} = (() => {{\n{body}\nreturn {{ {given} }};\n}})();"


def _variable(name: str) -> str:
    return "$" + name.removesuffix(".mjs").replace("-", "_")
