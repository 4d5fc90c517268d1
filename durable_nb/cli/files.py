"""Loading what a worker serves: a Python script, or a notebook by way of its export.

Invariant: the file is executed as a module, never as ``__main__``, so that it defines its tasks and does nothing else.
"""

from __future__ import annotations

import linecache
import sys
import traceback
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType

from durable_nb.cli.outcomes import NOT_FOUND, CommandError
from durable_nb.client import Durable
from durable_nb.errors import DeclarationError, DurableError
from durable_nb.export.files import read_notebook


def load(path: Path) -> Durable:
    """Execute a script, or a notebook's export, as a module; give its app object.

    Raises:
        CommandError: there is no such file, or it fails. DeclarationError: it makes no app object, or several.
    """
    if not path.is_file():
        raise CommandError(f"There is no file {path}: give a script (.py) or a notebook (.ipynb).", NOT_FOUND)
    module = _run(_notebook(path) if path.suffix == ".ipynb" else SourceFileLoader(path.stem, str(path.absolute())), path)
    apps = {id(value): value for value in vars(module).values() if isinstance(value, Durable)}
    if len(apps) != 1:
        found = "no app object" if not apps else f"{len(apps)} app objects"
        raise DeclarationError(f"{path} makes {found}, and a worker serves one: write `durable = Durable(…)` in it, once.")
    return next(iter(apps.values()))


class _Exported(SourceFileLoader):
    """Loads the text of an export beside its notebook, and lets Python find its lines."""

    def __init__(self, path: Path, text: str) -> None:
        super().__init__(path.stem, str(path.absolute()))
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        name = f"<export of {self.path}>"
        linecache.cache[name] = (len(self._text), None, self._text.splitlines(keepends=True), name)
        return compile(self._text, name, "exec", dont_inherit=True)


def _notebook(path: Path) -> SourceFileLoader:
    from durable_nb.export.script import export_to

    return _Exported(path, export_to(None, read_notebook(path), path).text)


def _run(loader: SourceFileLoader, path: Path) -> ModuleType:
    loader.name = name = f"durable_nb_worker_{path.stem}"
    spec = spec_from_loader(name, loader, origin=str(path.absolute()))
    assert spec is not None  # noqa: S101  a loader is given
    spec.has_location = True
    module = sys.modules[name] = module_from_spec(spec)
    sys.path.insert(0, str(path.parent.absolute()))  # as `python script.py` does
    try:
        loader.exec_module(module)
    except DurableError:
        raise
    except SyntaxError as error:
        raise CommandError(f"{path} is no Python (line {error.lineno}: {error.msg}).") from None
    except Exception as error:
        line = next(
            (
                f", line {frame.lineno}"
                for frame in reversed(traceback.extract_tb(error.__traceback__))
                if path.stem in frame.filename
            ),
            "",
        )
        raise CommandError(f"{path}{line} failed: {type(error).__name__}: {error}") from None
    return module
