"""The functions a filter may call.

Invariant: `FUNCTIONS` has all of them and how each is written, so a call of any other, or in any other form, does not compile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from durable_nb.engine.cel.conversions import to_bool, to_bytes, to_double, to_int, to_string, to_uint
from durable_nb.engine.cel.frame import CHARS_A_STEP, Frame, Overload
from durable_nb.engine.cel.patterns import matches
from durable_nb.engine.cel.times import TIME_PARTS, to_duration, to_timestamp
from durable_nb.engine.cel.values import mismatch, type_of


class Function(NamedTuple):
    """How a function may be called: `method` and `plain` are the numbers of arguments, the receiver counted."""

    call: Overload
    method: tuple[int, ...] = ()
    plain: tuple[int, ...] = ()

    def forms(self, name: str) -> str:
        """The ways to write it, for a message."""
        methods = [f"value.{name}({'…' if count > 1 else ''})" for count in self.method]
        plains = [f"{name}({', '.join(['value', '…'][:count])})" for count in self.plain]
        return " or ".join(methods + plains)


def _size(_: Frame, value: object) -> object:
    if isinstance(value, list | dict | bytes) or type(value) is str:
        return len(value)
    raise mismatch("size", value)


def _on_strings(name: str, test: Callable[[str, str], bool]) -> Overload:
    def call(frame: Frame, subject: object, part: object) -> object:
        if type(subject) is not str or type(part) is not str:
            raise mismatch(name, subject, part)
        frame.charge((len(subject) + len(part)) // CHARS_A_STEP)
        return test(subject, part)

    return call


FUNCTIONS: Final[dict[str, Function]] = {
    "size": Function(_size, method=(1,), plain=(1,)),
    "contains": Function(_on_strings("contains", lambda text, part: part in text), method=(2,)),
    "startsWith": Function(_on_strings("startsWith", str.startswith), method=(2,)),
    "endsWith": Function(_on_strings("endsWith", str.endswith), method=(2,)),
    "matches": Function(matches, method=(2,), plain=(2,)),
    "int": Function(to_int, plain=(1,)),
    "uint": Function(to_uint, plain=(1,)),
    "double": Function(to_double, plain=(1,)),
    "string": Function(to_string, plain=(1,)),
    "bool": Function(to_bool, plain=(1,)),
    "bytes": Function(to_bytes, plain=(1,)),
    "timestamp": Function(to_timestamp, plain=(1,)),
    "duration": Function(to_duration, plain=(1,)),
    "type": Function(lambda _, value: type_of(value), plain=(1,)),
    "dyn": Function(lambda _, value: value, plain=(1,)),
} | {name: Function(call, method=(1, 2)) for name, call in TIME_PARTS.items()}
"""By their CEL names."""
