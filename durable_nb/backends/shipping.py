"""From a task to bytes that another process can execute, and back.

cloudpickle carries the function with the globals that its code names, so that one that was defined in a cell works where no
notebook is. Such bytes go to processes that this one has started or was pointed to, never into the log; and nothing is
unpickled on the way back.

Invariant: what belongs to the engine's own process (app objects, tasks, contexts) travels as a stand-in that says so when it is
used, so that a function may name them without taking them along.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import logging
import os
import pickle
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from durable_nb.engine.executors import Errand
from durable_nb.errors import DeclarationError, ElsewhereError, ShippingError
from durable_nb.log.records import Claim
from durable_nb.tasks.depends import Dependency
from durable_nb.tasks.payload import ANY, adapter_for, hint_of
from durable_nb.tasks.task import Task

RESTORED = "durable_nb.restored"  # modules that only this process has: see definitions/rebuild.py
_pickling = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """What is executed elsewhere.

    Attributes:
        max_attempts: of the task. round_trip: whether its output has a type.
        sources: lines of code by file name, for tracebacks.
    """

    function: Any
    dependencies: Mapping[str, Dependency]
    input: object
    claim: Claim
    name: str
    max_attempts: int
    round_trip: bool
    siblings: Any
    sources: Mapping[str, Sequence[str]]


class StandIn:
    """A task or app object that was left behind.

    Attributes:
        name: of a task, '' for an app object.
    """

    def __init__(self, name: str, output: Any) -> None:
        self.name = name
        self._output = output

    @property
    def output_adapter(self) -> Any:
        """Of a task, by which its output is read."""
        return adapter_for(self._output, of=f"the output of task '{self.name}'")

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Refuse."""
        self._refuse()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self._refuse()

    def _refuse(self) -> NoReturn:
        what = f"Task '{self.name}'" if self.name else "The app object"
        raise ElsewhereError(
            f"{what} was used by a task that executes elsewhere (executor=…), where neither log nor engine are: use it in a "
            "durable task, and give this one what it needs as its input."
        )


@dataclass(frozen=True)
class ShortName:
    """Stands for a workflow's part, of which only the name is asked."""

    short_name: str


def pack(errand: Errand) -> bytes:
    """Give an errand as bytes.

    Raises:
        ShippingError: something that the function uses cannot be pickled, or cloudpickle is not there.
    """
    task, function = errand.task, errand.task.function
    parcel = Parcel(
        function=function,
        dependencies=task.dependencies,
        input=errand.input,
        claim=replace(errand.claim, input=""),
        name=task.name,
        max_attempts=task.options.retries + 1,
        round_trip=task.output_adapter is not ANY,
        siblings=errand.siblings,
        sources={name: lines for name in [function.__code__.co_filename] if (lines := linecache.getlines(name))},
    )
    file = io.BytesIO()
    try:
        shipper = _shipper()
        with _pickling, _by_value(shipper.cloudpickle):
            shipper(file).dump(parcel)
    except Exception as error:  # whatever the __reduce__ of a user's object raises
        raise ShippingError(
            f"Task '{task.name}' cannot be sent to its executor '{task.lane}': something that it uses cannot leave this process "
            f"({type(error).__name__}: {error}). Make it inside the function, or give it by a Depends."
        ) from None
    return file.getvalue()


def unpack(body: bytes) -> Parcel:
    """Make a parcel from bytes of `pack`, in the process that executes it."""
    parcel = pickle.loads(body)  # noqa: S301  made by the engine that started this process, or that this cluster serves
    if not isinstance(parcel, Parcel):
        raise TypeError("no parcel")
    return parcel


def surroundings() -> dict[str, Any]:
    """Give, as JSON values, what a process of our own needs of this one before it can unpack: where modules are, and the like."""
    with contextlib.suppress(OSError):  # it was removed
        folder = str(Path.cwd())
        return {"path": [path for path in sys.path if path], "folder": folder, "level": logging.getLogger().getEffectiveLevel()}
    return {"path": [path for path in sys.path if path], "folder": "", "level": logging.getLogger().getEffectiveLevel()}


def settle_in(said: Mapping[str, Any]) -> None:
    """Take over the surroundings of the process that has started this one."""
    sys.path[:] = [said["folder"] or "", *said["path"]]
    logging.getLogger().setLevel(said["level"])
    with contextlib.suppress(OSError):
        os.chdir(said["folder"] or ".")


def _shipper() -> Any:
    """Give a pickler of functions, with what is of this project taken care of."""
    import cloudpickle

    class Shipper(cloudpickle.CloudPickler):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, Task):
                return StandIn, (obj.name, _output_of(obj))
            if _is_host(obj):
                return StandIn, ("", None)
            return super().reducer_override(obj)

    Shipper.cloudpickle = cloudpickle
    return Shipper


def _is_host(value: object) -> bool:
    return isinstance(getattr(type(value), "aio_start_named", None), type(_is_host))


def _output_of(task: Task[Any]) -> Any:
    with contextlib.suppress(DeclarationError):
        return hint_of(task.function, "return")
    return Any


@contextlib.contextmanager
def _by_value(cloudpickle: ModuleType) -> Iterator[None]:
    """Have what lives in modules that only this process has travel as code, not by name."""
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(RESTORED)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
