"""Where an object comes from: the import that gives the very same object again.

Invariant: an import is only claimed after it has been looked up in the loaded modules and found to give the identical object.
Public paths are preferred (`pandas.DataFrame`, not `pandas.core.frame.DataFrame`), since private ones move between releases
and differ between platforms.
"""

from __future__ import annotations

import builtins
import hashlib
import site
import sys
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType

from durable_nb.definitions.records import FromImport, Import

_PLATFORM_MODULES = {"posixpath": "os.path", "ntpath": "os.path", "posix": "os", "nt": "os"}
_NOTEBOOK_NAMES = {"display": "IPython.display", "get_ipython": "IPython"}
_MAX_FILES = 1000


def import_of(name: str, module: ModuleType, paths: set[str]) -> Import | None:
    """The import that binds `module` to `name`; None if it was made in memory.

    Args:
        name: the variable.
        module: its value.
        paths: the attribute paths that the code reads from it; those that are submodules have to be imported too.
    """
    path = _PLATFORM_MODULES.get(module.__name__, module.__name__)
    if not is_importable(path) or sys.modules.get(path) is not module:
        return None
    submodules = sorted(
        f"{path}.{part}" for part in _prefixes(paths) if isinstance(sys.modules.get(f"{path}.{part}"), ModuleType)
    )
    return Import(name=name, module=path, submodules=tuple(submodules), sha256=local_hash(path))


def from_import_of(name: str, value: object, *, home: str) -> FromImport | None:
    """The import that binds the identical object to `name`; None if there is none, or only one from the module `home`."""
    owner = _text(value, "__module__")
    own_names = [text for text in (_text(value, "__qualname__"), _text(value, "__name__")) if text]
    for module in (owner, type(value).__module__):
        for path in _public_paths(module):
            # The variable's name is only a guess, so it must not make a module load something lazily.
            guess = [name] if name in vars(sys.modules.get(path, object)) else []
            for attribute in own_names + guess:
                found = from_module(name, value, module=path, attribute=attribute, home=home)
                if found:
                    return found
    return None


def from_module(name: str, value: object, *, module: str, attribute: str, home: str) -> FromImport | None:
    """`from module import attribute as name` if that gives the identical object."""
    if module == home or not is_importable(module) or "<" in attribute:
        return None
    target: object = sys.modules[module]
    for part in attribute.split("."):
        try:
            target = getattr(target, part)
        except Exception:  # a module's own __getattr__ may raise anything
            return None
    if target is not value:
        return None
    return FromImport(name=name, module=module, attribute=attribute, sha256=local_hash(owner_of(value, module)))


def owner_of(value: object, module: str) -> str:
    """The module that defines `value`, which may be another than the `module` it is imported from."""
    owner = _text(value, "__module__")
    return owner if is_importable(owner) else module


def type_name(value: object) -> str:
    """The name of the value's type as a person would import it: `pandas.DataFrame`."""
    cls = type(value)
    if cls.__module__ in {"builtins", "__main__"}:
        return cls.__qualname__
    found = from_import_of(cls.__name__, cls, home="__main__")
    return f"{found.module}.{found.attribute}" if found else cls.__qualname__


def notebook_builtin(name: str) -> FromImport | None:
    """The import behind a name that IPython adds to every notebook; None if there is no such name here."""
    module = _NOTEBOOK_NAMES.get(name)
    return FromImport(name=name, module=module, attribute=name) if module in sys.modules and module else None


def is_guarded_builtin(name: str, value: object) -> bool:
    """Whether a value is the guard that IPython puts before a builtin in every notebook, as it does for `open`."""
    guarded = getattr(builtins, name, None)
    module = getattr(value, "__globals__", {}).get("__name__", "")
    return guarded is not None and getattr(value, "__wrapped__", None) is guarded and module.startswith("IPython.")


def local_hash(module: str) -> str | None:
    """Hash a local module's files: a module or package from a file that is neither installed nor of the standard library.

    A package counts with all its Python files; what it imports in turn does not.
    """
    loaded = sys.modules.get(module)
    file = _text(loaded, "__file__")
    if loaded is None or not file or _is_installed(module, file):
        return None
    path = Path(file)
    files = sorted(path.parent.rglob("*.py"))[:_MAX_FILES] if hasattr(loaded, "__path__") else [path]
    digest = hashlib.sha256()
    for part in files:
        try:
            content = part.read_bytes().replace(b"\r\n", b"\n")
        except OSError:
            continue
        relative = part.relative_to(path.parent).as_posix().encode()
        digest.update(b"%d:%s%d:%s" % (len(relative), relative, len(content), content))
    return digest.hexdigest()


def is_importable(module: str) -> bool:
    """Whether a fresh kernel finds the module: it was loaded by the import system, not made in memory, nor is it `__main__`."""
    loaded = sys.modules.get(module)
    spec = getattr(loaded, "__spec__", None)
    if module == "__main__" or spec is None:
        return False
    if module == "os.path":
        return True
    return spec.origin in {"built-in", "frozen"} or bool(spec.has_location) or spec.submodule_search_locations is not None


def _is_installed(module: str, file: str) -> bool:
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top == "durable_nb":
        return True
    path = Path(file).resolve()
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    return any(path.is_relative_to(folder) for folder in _library_folders())


@lru_cache(maxsize=1)
def _library_folders() -> tuple[Path, ...]:
    named = sysconfig.get_paths()
    folders = [named[key] for key in ("purelib", "platlib", "stdlib", "platstdlib") if key in named]
    return tuple(Path(folder).resolve() for folder in (*folders, site.getusersitepackages()))


def _public_paths(module: str) -> Iterator[str]:
    """The paths to look under, the most public first: `a`, `a.b`, `a.b.c`. A local module stands for itself only."""
    if module in _PLATFORM_MODULES:
        yield _PLATFORM_MODULES[module]
    file = _text(sys.modules.get(module), "__file__")
    if not file or _is_installed(module, file):
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            path = ".".join(parts[:end])
            if path.startswith("_"):
                yield path.lstrip("_")
            if not any(part.startswith("_") for part in parts[:end]):
                yield path
    yield module


def _prefixes(paths: set[str]) -> set[str]:
    return {".".join(parts[: end + 1]) for parts in (path.split(".") for path in paths) for end in range(len(parts))}


def _text(value: object, attribute: str) -> str:
    """A text attribute of any object, "" where it has none; a foreign `__getattr__` may raise anything."""
    try:
        found = getattr(value, attribute, "")
    except Exception:
        return ""
    return found if isinstance(found, str) else ""
