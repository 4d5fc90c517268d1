"""Imports of a script: what its statements use, once each, in three sections (``__future__``, standard library, others).

The order is that of isort's default profile, which ruff keeps too: within a section plain imports first, then from-imports.
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Imports:
    """Imports that were gathered.

    >>> imports = Imports()
    >>> imports.add(ast.parse("from os import path, sep").body[0], {"sep"})
    >>> imports.add(ast.parse("import json").body[0])
    >>> imports.lines()
    ['import json', 'from os import sep']
    """

    _modules: set[tuple[str, str | None]] = field(default_factory=set)
    _names: dict[str, set[tuple[str, str | None]]] = field(default_factory=lambda: defaultdict(set))

    def add(self, node: ast.stmt, used: Iterable[str] | None = None) -> None:
        """Take in an import statement.

        Args:
            used: the names that are used; an import of others is left out. None keeps all.
        """
        wanted = None if used is None else set(used)
        if isinstance(node, ast.Import):
            for alias in node.names:
                if wanted is None or (alias.asname or alias.name.partition(".")[0]) in wanted:
                    self._modules.add((alias.name, alias.asname))
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                if wanted is None or alias.name == "*" or module == "__future__" or (alias.asname or alias.name) in wanted:
                    self._names[module].add((alias.name, alias.asname))

    def gives(self, name: str, *, other_than: str) -> bool:
        """Whether a name is imported already, from somewhere else."""
        modules = {alias or module.partition(".")[0] for module, alias in self._modules}
        members = {alias or member for module, names in self._names.items() if module != other_than for member, alias in names}
        return name in modules | members

    def lines(self) -> list[str]:
        """Give them as lines; sections are parted by an empty one."""
        sections: dict[int, list[str]] = defaultdict(list)
        for name, alias in sorted(self._modules, key=lambda item: (item[0].lower(), item[1] or "")):
            sections[_section(name)].append(f"import {_aliased(name, alias)}")
        for module in sorted(self._names, key=str.lower):
            names = ", ".join(_aliased(*item) for item in sorted(self._names[module], key=_member_order))
            sections[_section(module)].append(f"from {module} import {names}")
        found: list[str] = []
        for section in sorted(sections):
            found += ["", *sections[section]] if found else sections[section]
        return found


def _section(module: str) -> int:
    root = module.partition(".")[0]
    if root == "__future__":
        return 0
    return 3 if not root else 1 if root in sys.stdlib_module_names else 2


def _aliased(name: str, alias: str | None) -> str:
    return f"{name} as {alias}" if alias and alias != name else name


def _member_order(item: tuple[str, str | None]) -> tuple[int, str]:
    """Constants, then classes, then the rest."""
    name = item[0]
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name)
