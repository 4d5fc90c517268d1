"""Reading suspended frames: where each asyncio task of a run stands, and its local variables, as bounded text.

Values are described by what they are, never by their own `__repr__`, which could hang, lie or do something; what is not known
here is shown by its fields. Every text is bounded, however large the value. Pure, but for reading the objects.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import gc
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from types import FrameType, FunctionType, ModuleType, TracebackType
from typing import Any

LENGTH = 240  # characters of a description
ITEMS = 6  # of a container that are shown
DEPTH = 3
MOST_LOCALS = 60
MOST_FRAMES = 24
PLAIN = frozenset({int, float, complex, bool, type(None), type(...)})
SAID_PLAINLY = frozenset(
    {
        "datetime.datetime",
        "datetime.date",
        "datetime.time",
        "datetime.timedelta",
        "datetime.timezone",
        "decimal.Decimal",
        "fractions.Fraction",
        "uuid.UUID",
        "range.range",
        "zoneinfo.ZoneInfo",
    }
)
BRACKETS: dict[type, str] = {list: "[]", tuple: "()", set: "{}", frozenset: "{}"}


# ---------------------------------------------------------------- values


def type_name(value: object) -> str:
    """Give a value's type as people write it, with what its items are where they are of one type: ``list[Row]``."""
    kind = type(value)
    name = kind.__name__
    items = list(islice(_items(value), 64)) if kind in BRACKETS or kind is dict else []
    inner = {type(item).__name__ for item in items}
    return f"{name}[{inner.pop()}]" if len(inner) == 1 and kind is not dict else name


def size_of(value: object) -> str:
    """Give how large a container, text, array or table is: ``"118"``, ``"406 × 9"``; else nothing."""
    kind = type(value)
    if kind in BRACKETS or kind in (dict, bytes, bytearray):
        return f"{len(value):,}"  # type: ignore[arg-type]
    if kind is str and len(value) > LENGTH:  # type: ignore[arg-type]
        return f"{len(value):,} characters"  # type: ignore[arg-type]
    shape = _shape(value)
    return " × ".join(f"{number:,}" for number in shape) if shape else ""


def describe(value: object, length: int = LENGTH) -> str:
    """Give a value in a few words, whatever it is and however large.

    >>> describe(list(range(10_000)))
    '[0, 1, 2, 3, 4, 5, …]'
    >>> describe({"a": (1,), "b": "x" * 1_000}, 30)
    "{'a': (1,), 'b': 'xxxxxxxxxxx…"
    """
    try:
        text = _say(value, DEPTH, length)
    except Exception as error:  # reading a hostile value's fields may raise anything
        text = f"({type(value).__name__}, which cannot be shown: {type(error).__name__})"
    return text if len(text) <= length else text[: length - 1] + "…"


def _say(value: object, depth: int, room: int) -> str:
    kind = type(value)
    if kind in PLAIN:
        return _number(value)
    if kind is str:
        return repr(value[: room + 1])  # type: ignore[index]
    if kind in (bytes, bytearray):
        return repr(bytes(value[: room // 2 + 1]))  # type: ignore[index]
    if isinstance(value, enum.Enum):
        return f"{kind.__name__}.{value._name_}"
    if isinstance(value, type | FunctionType | ModuleType):
        return f"<{'class' if isinstance(value, type) else kind.__name__} {value.__name__}>"
    if f"{kind.__module__}.{kind.__name__}" in SAID_PLAINLY or kind is range:
        return str(value)
    if isinstance(value, BaseException):
        return f"{kind.__name__}({', '.join(_say(item, depth - 1, room // 2) for item in value.args[:ITEMS])})"
    if table := _table(value):
        return table
    if depth == 0:
        return "…" if kind in BRACKETS or kind is dict else f"{kind.__name__}(…)"
    if kind in BRACKETS:
        opening, closing = tuple(BRACKETS[kind])
        comma = "," if kind is tuple and len(value) == 1 else ""  # type: ignore[arg-type]
        return f"{opening}{_joined((_say(item, depth - 1, room) for item in _items(value)), room)}{comma}{closing}"
    if kind is dict:
        pairs = (f"{_say(key, depth - 1, room)}: {_say(item, depth - 1, room)}" for key, item in value.items())  # type: ignore[attr-defined]
        return f"{{{_joined(pairs, room)}}}"
    fields = _fields(value)
    if fields is None:
        return f"<{kind.__name__}>"
    return f"{kind.__name__}({_joined((f'{name}={_say(item, depth - 1, room)}' for name, item in fields), room)})"


def _number(value: object) -> str:
    if type(value) is int and value.bit_length() > 4 * LENGTH:
        return f"an integer of {value.bit_length():,} bits"
    return repr(value)


def _joined(parts: Iterator[str], room: int) -> str:
    said: list[str] = []
    for part in parts:
        if len(said) == ITEMS or sum(map(len, said)) > room:
            said.append("…")
            break
        said.append(part)
    return ", ".join(said)


def _items(value: Any) -> Iterable[Any]:
    return islice(iter(value), ITEMS + 1)


def _fields(value: object) -> Iterator[tuple[str, object]] | None:
    """Give an object's fields: those of a dataclass or model, else its attributes; None where it has none to be seen."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
        return ((name, object.__getattribute__(value, name)) for name in names if _has(value, name))
    with suppress(AttributeError):
        found = object.__getattribute__(value, "__dict__")
        if isinstance(found, dict):
            return ((name, item) for name, item in found.items() if isinstance(name, str) and not name.startswith("_"))
    return None


def _has(value: object, name: str) -> bool:
    try:
        object.__getattribute__(value, name)
    except AttributeError:
        return False
    return True


def _shape(value: Any) -> tuple[int, ...]:
    if type(value).__module__.partition(".")[0] not in ("numpy", "pandas", "polars", "pyarrow"):
        return ()
    shape = getattr(value, "shape", ())
    return tuple(int(number) for number in shape) if isinstance(shape, tuple) else ()


def _table(value: Any) -> str:
    """Describe an array or table by what it holds."""
    kind, package = type(value).__name__, type(value).__module__.partition(".")[0]
    numpy = sys.modules.get("numpy")
    if numpy and isinstance(value, numpy.generic):
        return repr(value.item())
    if package == "numpy" and kind == "ndarray":
        said = ", ".join(repr(item) for item in value.ravel()[:ITEMS].tolist()) if value.dtype != object else ""
        return f"array {value.dtype}: [{said}{', …' if value.size > ITEMS else ''}]"
    if package in ("pandas", "polars") and kind == "DataFrame":
        return f"columns {', '.join(map(str, list(value.columns)[:ITEMS]))}{', …' if len(value.columns) > ITEMS else ''}"
    if package == "pandas" and kind == "Series":
        return f"{value.dtype} series {value.name}"
    if package == "pyarrow" and kind == "Table":
        return f"columns {', '.join(value.column_names[:ITEMS])}{', …' if len(value.column_names) > ITEMS else ''}"
    return f"<{kind}>" if package in ("pandas", "polars", "pyarrow") else ""


# ---------------------------------------------------------------- frames


def frames_of(task: asyncio.Task[Any], is_shown: Callable[[FrameType], bool]) -> list[FrameType]:
    """Give the frames in which a task is suspended, the outermost first, along what each awaits."""
    found: list[FrameType] = []
    awaitable: Any = task.get_coro()
    while awaitable is not None and len(found) < MOST_FRAMES:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(awaitable, f"{kind}_frame")), None)
        if kind is None:
            awaitable = _generator_of(awaitable)
            continue
        frame = getattr(awaitable, f"{kind}_frame")
        if frame is not None and is_shown(frame):
            found.append(frame)
        awaitable = getattr(awaitable, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return found


def _generator_of(step: object) -> object | None:
    """Give the async generator that a step of it (``asend``, ``athrow``) belongs to: only the collector knows."""
    if not type(step).__name__.startswith(("async_generator_a", "anext_awaitable", "coroutine_wrapper")):
        return None
    return next(
        (item for item in gc.get_referents(step) if hasattr(item, "ag_frame") or hasattr(item, "cr_frame")), None
    ) or next((item for item in gc.get_referents(step) if type(item).__name__.startswith("async_generator_a")), None)


def frames_of_error(error: BaseException, is_shown: Callable[[FrameType], bool]) -> list[tuple[FrameType, int]]:
    """Give the frames that an error has left, each with its line, the outermost first."""
    found: list[tuple[FrameType, int]] = []
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if is_shown(trace.tb_frame):
            found.append((trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return found[-MOST_FRAMES:]


def locals_of(frame: FrameType, is_left_out: Callable[[object], bool]) -> Mapping[str, object]:
    """Give a frame's local variables, those of the interpreter's own making left out."""
    named = {name: value for name, value in dict(frame.f_locals).items() if name.isidentifier() and not is_left_out(value)}
    return dict(islice(named.items(), MOST_LOCALS))
