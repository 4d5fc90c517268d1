"""Secrets, taken out of what leaves the log.

The log itself keeps every value as it is, since a replay needs it; bundles and exports get a word in the place of the fields
that are named here. Invariant: a field is found by its place in a payload's JSON; free text (log lines, streamed chunks, error
messages, keys) is never changed.
"""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import from_json

from durable_nb.errors import DeclarationError
from durable_nb.tasks.artifacts import MARK

WORD = "[redacted]"


class Redaction:
    """Which fields are taken out.

    Args:
        patterns: names of fields at any depth (``"password"``), or the ends of their paths (``"card.number"``), with ``*`` for
            any characters of one part; upper and lower case are the same.

    Raises:
        DeclarationError: something else than text, or an empty part.

    >>> Redaction(["token", "card.n*"]).text('{"a":[{"Token":1}],"card":{"number":4},"number":5}')
    '{"a":[{"Token":"[redacted]"}],"card":{"number":"[redacted]"},"number":5}'
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        if isinstance(patterns, str) or not all(type(pattern) is str and all(pattern.split(".")) for pattern in patterns):
            raise DeclarationError(f"redact={patterns!r}: give a list of field names, such as ['password', 'card.number'].")
        self.patterns = tuple(dict.fromkeys(patterns))
        self._parts = [tuple(part.lower() for part in pattern.split(".")) for pattern in self.patterns]

    def __bool__(self) -> bool:
        return bool(self._parts)

    def text(self, text: str) -> str:
        """Give a payload's JSON text without those fields."""
        if not self._parts:
            return text
        value = from_json(text)
        changed = self._value(value, ())
        if changed == value:
            return text
        body = json.dumps(changed, ensure_ascii=False, separators=(",", ":"))
        return MARK + body if text.startswith(MARK) else body

    def _value(self, value: Any, path: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [self._value(item, path) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: WORD if self._matches((*path, key.lower())) else self._value(item, (*path, key.lower()))
            for key, item in value.items()
        }

    def _matches(self, path: tuple[str, ...]) -> bool:
        return any(len(parts) <= len(path) and all(map(fnmatch.fnmatchcase, path[-len(parts) :], parts)) for parts in self._parts)


def marked_fields(schema: object) -> set[str]:
    """Give the fields that a JSON Schema marks as secret: ``writeOnly`` (pydantic's SecretStr), or ``"redact": true``."""
    return set(_marked(schema))


def _marked(schema: object) -> Iterator[str]:
    if isinstance(schema, list):
        for item in schema:
            yield from _marked(item)
    elif isinstance(schema, dict):
        properties = schema.get("properties")
        for name, field in properties.items() if isinstance(properties, dict) else ():
            if "writeOnly" in json.dumps(field) or (isinstance(field, dict) and field.get("redact") is True):
                yield name
        for item in schema.values():
            yield from _marked(item)
