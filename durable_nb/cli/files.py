"""Loading what a worker serves: a Python script, or a notebook by way of its export."""

from __future__ import annotations

import json
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType

from durable_nb.client import Durable
from durable_nb.errors import DeclarationError


def load(path: Path) -> Durable:
    """Run a script or a notebook's export as a module (not as ``__main__``); give its app object.

    Raises:
        FileNotFoundError: there is none. DeclarationError: it makes no app object, or several.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}: give a script (.py) or a notebook (.ipynb).")
    module = _notebook(path) if path.suffix == ".ipynb" else _script(path)
    apps = {id(value): value for value in vars(module).values() if isinstance(value, Durable)}
    if len(apps) != 1:
        found = "no app object" if not apps else f"{len(apps)} app objects"
        raise DeclarationError(f"{path} makes {found}, and a worker serves one: write `durable = Durable(…)` in it, once.")
    return next(iter(apps.values()))


def _script(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.parent.absolute()))  # as `python script.py` does
    return _run(SourceFileLoader(path.stem, str(path.absolute())), path)


def _notebook(path: Path) -> ModuleType:
    from durable_nb.export.script import export

    script = export(json.loads(path.read_text(encoding="utf-8")), log=f"{path.stem}.durable.db", name=path.stem)
    sys.path.insert(0, str(path.parent.absolute()))
    return _run(_Exported(path.stem, str(path.absolute()), script.text), path)


class _Exported(SourceFileLoader):
    """Loads the text of an export under the notebook's path."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> object:  # type: ignore[override]
        return compile(self._text, self.path, "exec", dont_inherit=True)


def _run(loader: SourceFileLoader, path: Path) -> ModuleType:
    name = f"durable_nb_worker_{path.stem}"
    loader.name = name
    spec = spec_from_loader(name, loader, origin=str(path.absolute()))
    assert spec is not None  # noqa: S101  a loader is given
    spec.has_location = True
    module = sys.modules[name] = module_from_spec(spec)
    loader.exec_module(module)
    return module
