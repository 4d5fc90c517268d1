"""Reading an answer that was typed: the one way from a line of text to the JSON value that a question takes. Pure."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from durable_nb.errors import InputValidationError
from durable_nb.tasks.payload import decode
from durable_nb.tasks.schemas import misfit, misfits

WORDS = {"yes": True, "y": True, "true": True, "no": False, "n": False, "false": False}


def read_answer(text: str, schema: Mapping[str, Any]) -> Any:
    """Give what a person typed as the JSON value that a question's schema takes.

    It is read as JSON; else as text, quotes spared; else as yes or no. The first reading that fits is taken.

    Args:
        text: what was typed. schema: `InboxItem.schema`.

    Raises:
        InputValidationError: no reading fits.

    >>> read_answer("yes", {"type": "boolean"}), read_answer("red", {"enum": ["red", "blue"]})
    (True, 'red')
    >>> read_answer('{"ok": true}', {"type": "object", "required": ["ok"]})
    {'ok': True}
    """
    written = json.dumps(schema)
    readings = _readings(text)
    for value in readings:
        if not misfits(value, written):
            return value
    value = readings[0]
    raise InputValidationError(f"The answer {text[:80]!r} does not fit: {misfit(value, written)}.", misfits(value, written))


def _readings(text: str) -> list[Any]:
    readings: list[Any] = []
    with contextlib.suppress(InputValidationError):
        readings.append(decode(text))
    readings.append(text)
    word = WORDS.get(text.strip().lower())
    return readings if word is None else [*readings, word]
