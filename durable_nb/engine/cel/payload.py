"""The JSON edge: values come in checked, results go out plain.

Invariant: inside, every value is JSON within the limits or was made by the expression under the budget; nothing is copied on
the way in and nothing is changed inside.
"""

from __future__ import annotations

from typing import Any, Final

from durable_nb.engine.cel.containers import key_text
from durable_nb.engine.cel.faults import Fault
from durable_nb.engine.cel.frame import Frame
from durable_nb.engine.cel.limits import MAX_INPUT_CHARS, MAX_INPUT_DEPTH, MAX_INPUT_VALUES, MAX_INT_BITS
from durable_nb.engine.cel.times import duration_text, timestamp_text
from durable_nb.engine.cel.values import Duration, Timestamp, Type, Uint

_SCALARS: Final = frozenset({type(None), bool, float})


def check_input(values: list[object]) -> None:
    """Refuse values that are no JSON, or too many, too long or too deep. Level by level: it never recurses."""
    level: list[Any] = values
    seen = chars = 0
    for _ in range(MAX_INPUT_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                chars += len(item)
            elif kind is int:
                if item.bit_length() > MAX_INT_BITS:
                    raise Fault(f"the input holds an integer of more than {MAX_INT_BITS} bits; send it as a string")
            elif kind is dict:
                below += item.values()
                try:
                    chars += len("".join(item))
                except TypeError:
                    raise Fault("the input holds a map with keys that are no strings; give it string keys") from None
            elif kind is list:
                below += item
            elif kind not in _SCALARS:
                raise Fault(f"the input holds a {kind.__name__} that is no JSON value; give the filter what JSON can hold")
        seen += len(below)
        if seen > MAX_INPUT_VALUES or chars > MAX_INPUT_CHARS:
            message = f"the input has more than {MAX_INPUT_VALUES:,} values or {MAX_INPUT_CHARS:,} characters"
            raise Fault(f"{message}; send a smaller event, with a reference to the rest")
        if not below:
            return
        level = below
    raise Fault(f"the input nests deeper than {MAX_INPUT_DEPTH} levels; send a flatter event")


def to_json(frame: Frame, value: object) -> object:
    """A CEL value as proto3's JSON mapping gives it: bytes in base64, times as text, keys as strings.

    It takes steps too: a result may hold one part of the input many times.
    """
    frame.charge(1)
    if isinstance(value, list):
        return [to_json(frame, item) for item in value]
    if isinstance(value, dict):
        return {key_text(key): to_json(frame, item) for key, item in value.items()}
    if isinstance(value, bytes):
        from base64 import b64encode

        return b64encode(value).decode("ascii")
    if isinstance(value, Timestamp):
        return timestamp_text(value)
    if isinstance(value, Duration):
        return duration_text(value)
    if isinstance(value, Uint):
        return int(value)
    return str(value) if isinstance(value, Type) else value
