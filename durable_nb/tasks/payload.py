"""Payloads: everything that enters the log is JSON, written and read by pydantic, never pickle.

Invariant: `decode(encode(v), type(v))` gives what every replay will give, so a value is always used *decoded*, the first
time too. NaN and infinity are kept as the words ``NaN`` and ``Infinity``, which pydantic reads back; strict JSON has no
form for them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json, to_jsonable_python

from durable_nb.errors import DeclarationError, IllegalTaskOutputError, InputValidationError, PayloadTooLargeError

MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
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
        text = to_json(value).decode()
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise IllegalTaskOutputError(
            f"{of} is a {type(value).__qualname__} that JSON cannot hold ({error}). "
            "Give None, JSON values, a pydantic model or a dataclass."
        ) from None
    if len(text) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLargeError(
            f"{of} takes {len(text) / 2**20:.0f} MiB as JSON; the log takes 64 MiB. Write it to a file and give its path."
        )
    return text


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


def encode_input(value: object, adapter: TypeAdapter[Any], *, of: str) -> tuple[str, str]:
    """Validate an input; give it as JSON whole, and as it was passed, without model defaults (for the fingerprint).

    Raises:
        InputValidationError: it does not fit; nothing was written.
    """
    passed = value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value
    if adapter is not ANY:
        try:
            value = adapter.validate_python(value.model_dump() if isinstance(value, BaseModel) else to_jsonable_python(value))
        except ValidationError as error:
            raise InputValidationError(f"{of} does not fit: {explain(error)}") from None
        except PydanticSerializationError as error:
            raise InputValidationError(f"{of} cannot be written as JSON: {error}.") from None
    try:
        return encode(value, of=of), encode(passed, of=of)
    except IllegalTaskOutputError as error:
        raise InputValidationError(str(error)) from None


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
    except PydanticSchemaGenerationError as error:
        raise DeclarationError(
            f"{of} is {annotation!r}, which pydantic cannot read from JSON: {str(error).splitlines()[0]}. Use a pydantic model."
        ) from None


@lru_cache(maxsize=512)
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Give the annotations of a function, evaluated; {} where a name in them is not defined (yet)."""
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, AttributeError):
        return {name: hint for name, hint in function.__annotations__.items() if not isinstance(hint, str)}
