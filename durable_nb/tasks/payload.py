"""Payloads: everything that enters the log is JSON, written and read by pydantic, never pickle.

Invariant: `decode(encode(v), type(v))` gives what every replay will give, so a value is always used *decoded*, the first
time too. NaN and infinity are kept as the words ``NaN`` and ``Infinity``, which pydantic reads back; strict JSON has no
form for them.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, cast, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from durable_nb.errors import (
    DeclarationError,
    IllegalTaskOutputError,
    InputValidationError,
    PayloadTooLargeError,
)
from durable_nb.tasks.artifacts import KEY, MARK, Artifacts, ArtifactText, Bytes, Shelf, is_artifact_type, restore
from durable_nb.tasks.plain import holds_secret, ordered, plain

MAX_PAYLOAD_BYTES = 64 * 1024 * 1024
SURE_BYTES = 400  # shorter JSON can be read back whatever it is: 200 levels take two brackets each
HIDDEN = b"**********"  # what pydantic writes in the place of a secret
REFERENCE = f'"{KEY}":'.encode()
ANY: TypeAdapter[Any] = TypeAdapter(Any)


class EmptyModel(BaseModel):
    """The input of a task that takes none."""

    model_config = ConfigDict(extra="allow")


def encode(value: object, *, of: str, round_trip: bool = False, artifacts: bool = True) -> str:
    """Give a value as JSON text; as an `ArtifactText`, where it holds bytes, arrays or tables.

    Args:
        value: None, a JSON value, a pydantic model, dataclass, TypedDict, datetime, ... (what pydantic writes as JSON), with
            artifacts in it where JSON cannot hold a value; in a model or dataclass, bytes are what their field's type says.
        of: whose value it is, for the error, such as ``"the output of task 'clean'"``.
        round_trip: leave out what its type computes, since the type is to read it back.
        artifacts: whether it may hold any.

    Raises:
        IllegalTaskOutputError: JSON cannot hold it. PayloadTooLargeError: it is larger than 64 MiB, an artifact than 256 MiB.

    >>> encode({"a": 1}, of="an example")
    '{"a":1}'
    """
    shelf = Shelf(of)
    try:
        body = to_json(plain(value), round_trip=round_trip, fallback=shelf.put if artifacts else _refuse_artifact)
        if SURE_BYTES < len(body) <= MAX_PAYLOAD_BYTES:
            from_json(body)  # it writes deeper nesting and longer integers than it reads
    except (PydanticSerializationError, TypeError, ValueError, RecursionError) as error:
        if shelf.refusal is not None:
            raise shelf.refusal from None
        raise IllegalTaskOutputError(
            f"{of} is a {type(value).__qualname__} that JSON cannot hold ({error}). "
            "Give None, JSON values, a pydantic model, a dataclass, bytes, a NumPy array or a DataFrame."
        ) from None
    if HIDDEN in body and holds_secret(value):
        raise IllegalTaskOutputError(
            f"{of} holds a SecretStr, which pydantic writes as asterisks, so nobody would ever read it again: give its field a "
            "@field_serializer that writes the value, or declare it as `str` and name it in Durable(redact=[…])."
        )
    if len(body) > MAX_PAYLOAD_BYTES:
        raise PayloadTooLargeError(
            f"{of} takes {len(body) / 2**20:.0f} MiB as JSON; the log takes 64 MiB. Write it to a file and give its path."
        )
    if not shelf.artifacts:
        return body.decode()
    if body.count(REFERENCE) != shelf.references:
        raise IllegalTaskOutputError(f"{of} has the key '{KEY}' beside bytes, arrays or tables, which it stands for: rename it.")
    return ArtifactText(MARK + body.decode(), shelf.artifacts)


def _refuse_artifact(value: object) -> None:
    name = "bytes" if isinstance(value, Bytes) else f"{type(value).__module__}.{type(value).__qualname__}"
    raise TypeError(f"unknown type {name}; only inputs and outputs may hold bytes, arrays and tables")


def joined(parts: Mapping[str, str]) -> str:
    """Give several payloads as the text of one object; their artifacts come with it.

    >>> joined({"a": "1", "b": "[]"})
    '{"a":1,"b":[]}'
    """
    body = ",".join(f"{json.dumps(name, ensure_ascii=False)}:{text}" for name, text in parts.items())
    kept = [text.artifacts for text in parts.values() if isinstance(text, ArtifactText)]
    text = f"{{{body}}}"
    return ArtifactText(MARK + text, Artifacts(kept)) if kept else text


def decode(text: str, adapter: TypeAdapter[Any] = ANY, *, of: str = "a payload") -> Any:
    """Give JSON text as a value of the adapter's type (a plain JSON value by default).

    Raises:
        InputValidationError: the text is not JSON, or does not fit the type; the sentence names the fields.
        ArtifactError: it refers to an artifact that is not there, or is damaged.
    """
    try:
        if isinstance(text, ArtifactText):
            value = restore(from_json(text), text.artifacts)
            return value if adapter is ANY else adapter.validate_python(value)
        return from_json(text) if adapter is ANY else _validate_json(text, adapter)
    except ValidationError as error:
        raise InputValidationError(f"{of} does not fit its type: {explain(error)}", misfits_of(error)) from None
    except ValueError as error:
        raise InputValidationError(f"{of} is not JSON: {error}.") from None


def _validate_json(text: str, adapter: TypeAdapter[Any]) -> Any:
    try:
        return adapter.validate_json(text)
    except ValidationError as error:
        if any(
            item["type"] == "needs_python_object" for item in error.errors(include_url=False)
        ):  # a type of artifacts, and none
            return adapter.validate_python(from_json(text))
        raise


def explain(error: ValidationError) -> str:
    """Give a validation error as one line: field, problem; field, problem."""
    parts = [f"{'.'.join(map(str, item['loc'])) or 'value'}: {item['msg']}" for item in error.errors(include_url=False)[:5]]
    more = error.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more > 0 else "") + "."


def misfits_of(error: ValidationError) -> list[tuple[tuple[str | int, ...], str]]:
    """Give what a validation error says is wrong: the path to the value, and why."""
    return [(item["loc"], item["msg"]) for item in error.errors(include_url=False, include_input=False)]


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


def encode_given(value: object, *, of: str, round_trip: bool = False, artifacts: bool = False) -> str:
    """Give as JSON text what a caller passes in: metadata, an event's payload.

    Raises:
        InputValidationError: JSON cannot hold it; nothing was written.
    """
    try:
        return encode(value, of=of, round_trip=round_trip, artifacts=artifacts)
    except IllegalTaskOutputError as error:
        raise InputValidationError(str(error)) from None


def encode_input(value: object, adapter: TypeAdapter[Any], *, of: str) -> tuple[str, str]:
    """Validate an input; give it as JSON whole, and as it was passed, without model defaults (for the fingerprint).

    No input is the empty one, ``{}``, where the type does not take None.

    Raises:
        InputValidationError: it does not fit; nothing was written.
    """
    if value is None and adapter is not ANY and not _takes_none(adapter):
        value = {}
    given = encode_given(value, of=of, round_trip=adapter is not ANY, artifacts=True)
    whole = given
    if adapter is not ANY:
        whole = encode_given(decode(given, adapter, of=of), of=of, round_trip=True, artifacts=True)
    return whole, _without_defaults(value, of) if isinstance(value, BaseModel) else given


def _without_defaults(value: BaseModel, of: str) -> str:
    """Give the JSON of what a model was made with; of its artifacts the hashes only."""
    serializer = type(value).__pydantic_serializer__
    return serializer.to_json(
        ordered(value), exclude_unset=True, round_trip=True, warnings=False, fallback=Shelf(of).put
    ).decode()


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
        if _holds_artifacts(annotation):
            return TypeAdapter(cast("Any", annotation), config=ConfigDict(arbitrary_types_allowed=True))
        raise DeclarationError(
            f"{of} is {annotation!r}, which pydantic cannot read from JSON: {str(error).splitlines()[0]}. Use a pydantic model."
        ) from None


def _holds_artifacts(annotation: Any) -> bool:
    """Whether arrays and tables are all that pydantic has no schema for in an annotation."""
    origin = get_origin(annotation)
    if is_artifact_type(annotation) or is_artifact_type(origin):
        return True
    inner = [part for part in get_args(annotation) if part is not Ellipsis]
    if origin is None or not inner:
        return False
    return any(map(_holds_artifacts, inner)) and all(_holds_artifacts(part) or _is_known(part) for part in inner)


def _is_known(annotation: Any) -> bool:
    try:
        TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return False
    return True


@lru_cache(maxsize=512)
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)


def schema_of(adapter: TypeAdapter[Any]) -> str | None:
    """Give the JSON Schema of a type as JSON text, by which any process can judge a payload; None for `Any`."""
    return None if adapter is ANY else json.dumps(adapter.json_schema())


def hint_of(function: Callable[..., Any], name: str) -> Any:
    """Give the annotation of a parameter (or ``"return"``) of a function, evaluated; `Any` where there is none.

    Raises:
        DeclarationError: it names something that is not defined where the function is.
    """
    hint = function.__annotations__.get(name, Any)
    if not isinstance(hint, str):
        return hint
    free = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    names = {}
    for free_name, cell in free:
        with contextlib.suppress(ValueError):  # an empty cell: a name that is bound later, such as the task's own
            names[free_name] = cell.cell_contents
    holder = type("holder", (), {"__annotations__": {name: hint}, "__module__": function.__module__})
    try:
        return get_type_hints(holder, globalns=function.__globals__, localns=names, include_extras=True)[name]
    except (NameError, AttributeError, SyntaxError) as error:
        raise DeclarationError(
            f"The annotation {hint!r} of {function.__name__} cannot be read ({error}): define it at the top level, "
            "before the task."
        ) from None
