"""Payloads: everything that enters the log is JSON, written and read by pydantic, never pickle.

Invariant: `decode(encode(v), type(v))` gives what every replay will give, so a value is always used *decoded*, the first
time too. NaN and infinity are kept as the words ``NaN`` and ``Infinity``, which pydantic reads back; strict JSON has no
form for them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from durable_nb.errors import DeclarationError, IllegalTaskOutputError, InputValidationError, PayloadTooLargeError

MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
SURE_BYTES = 400  # shorter JSON can be read back whatever it is: 200 levels take two brackets each
ANY: TypeAdapter[Any] = TypeAdapter(Any)


class EmptyModel(BaseModel):
    """The input of a task that takes none."""

    model_config = ConfigDict(extra="allow")


def encode(value: object, *, of: str) -> str:
    """Give a value as JSON text.

    Args:
        value: None, a JSON value, a pydantic model, dataclass, TypedDict, datetime, ... (what pydantic writes as JSON).
        of: whose value it is, for the error, such as ``"the output of task 'clean'"``.

    Raises:
        IllegalTaskOutputError: JSON cannot hold it. PayloadTooLargeError: it is larger than 64 MiB.

    >>> encode({"a": 1}, of="an example")
    '{"a":1}'
    """
    refuse_bytes(value, of)
    try:
        body = to_json(value)
        if SURE_BYTES < len(body) <= MAX_PAYLOAD_BYTES:
            from_json(body)  # it writes deeper nesting and longer integers than it reads
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise IllegalTaskOutputError(
            f"{of} is a {type(value).__qualname__} that JSON cannot hold ({error}). "
            "Give None, JSON values, a pydantic model or a dataclass."
        ) from None
    if len(body) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLargeError(
            f"{of} takes {len(body) / 2**20:.0f} MiB as JSON; the log takes 64 MiB. Write it to a file and give its path."
        )
    return body.decode()


def refuse_bytes(value: object, of: str) -> None:
    """Refuse bytes, which JSON would silently turn into text."""
    if isinstance(value, bytes | bytearray | memoryview):
        raise IllegalTaskOutputError(
            f"{of} is {type(value).__name__}, which JSON cannot hold. Write it to a file and give its path."
        )


def decode(text: str, adapter: TypeAdapter[Any] = ANY, *, of: str = "a payload") -> Any:
    """Give JSON text as a value of the adapter's type (a plain JSON value by default).

    Raises:
        InputValidationError: the text is not JSON, or does not fit the type; the sentence names the fields.
    """
    try:
        return from_json(text) if adapter is ANY else adapter.validate_json(text)
    except ValidationError as error:
        raise InputValidationError(f"{of} does not fit its type: {explain(error)}") from None
    except ValueError as error:
        raise InputValidationError(f"{of} is not JSON: {error}.") from None


def explain(error: ValidationError) -> str:
    """Give a validation error as one line: field, problem; field, problem."""
    parts = [f"{'.'.join(map(str, item['loc'])) or 'value'}: {item['msg']}" for item in error.errors(include_url=False)[:5]]
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "") + "."


def check_text(text: object, *, of: str) -> None:
    """Refuse a name (an event's key, a scope, a child key) that the log cannot hold.

    Raises:
        InputValidationError: it is no text, or holds half of a surrogate pair; nothing was written.
    """
    if not isinstance(text, str):
        raise InputValidationError(f"{of} is {text!r}, a {type(text).__name__}: give text.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputValidationError(f"{of} is {text!a}, which holds half a character: give text that UTF-8 can hold.") from None


def encode_given(value: object, *, of: str) -> str:
    """Give as JSON text what a caller passes in: metadata, an event's payload.

    Raises:
        InputValidationError: JSON cannot hold it; nothing was written.
    """
    try:
        return encode(value, of=of)
    except IllegalTaskOutputError as error:
        raise InputValidationError(str(error)) from None


def encode_input(value: object, adapter: TypeAdapter[Any], *, of: str) -> tuple[str, str]:
    """Validate an input; give it as JSON whole, and as it was passed, without model defaults (for the fingerprint).

    No input is the empty one, ``{}``, where the type does not take None.

    Raises:
        InputValidationError: it does not fit; nothing was written.
    """
    passed = value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value
    if adapter is not ANY:
        if value is None and not _takes_none(adapter):
            value = passed = {}
        try:
            value = adapter.validate_python(
                value.model_dump(by_alias=True) if isinstance(value, BaseModel) else to_jsonable_python(value)
            )
        except ValidationError as error:
            raise InputValidationError(f"{of} does not fit: {explain(error)}") from None
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise InputValidationError(f"{of} cannot be written as JSON: {error}.") from None
    return encode_given(value, of=of), encode_given(passed, of=of)


def _takes_none(adapter: TypeAdapter[Any]) -> bool:
    try:
        adapter.validate_python(None)
    except ValidationError:
        return False
    return True


def adapter_for(annotation: object, *, of: str) -> TypeAdapter[Any]:
    """Give pydantic's adapter of a type; `Any` for what has no annotation.

    Raises:
        DeclarationError: pydantic cannot validate the type.
    """
    if annotation is Any or annotation is None or annotation is object:
        return ANY
    try:
        return _adapter(annotation)
    except TypeError:  # an unhashable annotation
        return TypeAdapter(cast("Any", annotation))
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise DeclarationError(
            f"{of} is {annotation!r}, which pydantic cannot read from JSON: {str(error).splitlines()[0]}. Use a pydantic model."
        ) from None


@lru_cache(maxsize=512)
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def schema_of(adapter: TypeAdapter[Any]) -> str | None:
    """Give the JSON Schema of a type as JSON text, by which any process can judge a payload; None for `Any`."""
    return None if adapter is ANY else json.dumps(adapter.json_schema(), sort_keys=True)


def hint_of(function: Callable[..., Any], name: str) -> Any:
    """Give the annotation of a parameter (or ``"return"``) of a function, evaluated; `Any` where there is none.

    Raises:
        DeclarationError: it names something that is not defined where the function is.
    """
    hint = function.__annotations__.get(name, Any)
    if not isinstance(hint, str):
        return hint
    free = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    names = {name: cell.cell_contents for name, cell in free}
    holder = type("holder", (), {"__annotations__": {name: hint}, "__module__": function.__module__})
    try:
        return get_type_hints(holder, globalns=function.__globals__, localns=names, include_extras=True)[name]
    except (NameError, AttributeError, SyntaxError) as error:
        raise DeclarationError(
            f"The annotation {hint!r} of {function.__name__} cannot be read ({error}): define it at the top level, "
            "before the task."
        ) from None
