"""Artifacts: values that JSON cannot hold (bytes, NumPy arrays, tables), kept by hash beside the JSON that refers to them.

Invariants: no pickle is written or read, ever; equal content is kept once; what comes back is what went in, with its dtype, shape
and index, or it is refused before anything is written; a reference is only followed in a text that this module made
(`ArtifactText`), so that a value of a user, however it looks, is never taken for one.

In the log such a text begins with a space, which JSON allows and no other payload of ours has. NumPy, pandas, pyarrow and
polars are imported only to read what they made, or after the user's code has imported them.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from pydantic_core import from_json

from durable_nb.errors import ArtifactError, DurableError, IllegalTaskOutputError, PayloadTooLargeError

MAX_ARTIFACT_BYTES = 256 * 1024 * 1024
MARK = " "  # what the text of a payload with artifacts begins with
KEY = "$artifact"
OLDEST_PYARROW = (14, 0, 1)  # earlier ones unpickle extension types of a file


class ArtifactText(str):
    """The JSON text of a value with artifacts.

    Attributes:
        artifacts: their forms by hash (64 hexadecimal digits); of a text from the log, read when they are asked for.
    """

    artifacts: Mapping[str, bytes]

    def __new__(cls, text: str, artifacts: Mapping[str, bytes]) -> ArtifactText:
        """Give a text with what it refers to."""
        self = super().__new__(cls, text)
        self.artifacts = artifacts
        return self

    def __reduce__(self) -> tuple[type[ArtifactText], tuple[str, dict[str, bytes]]]:
        """Take what it refers to along into another process, which need not have the log."""
        return ArtifactText, (str(self), {digest: self.artifacts[digest] for digest in referred(self)})


class Artifacts(Mapping[str, bytes]):
    """The artifacts of several texts that have become one."""

    def __init__(self, parts: Iterable[Mapping[str, bytes]]) -> None:
        self._parts = sorted(parts, key=len, reverse=True)  # those in the log, which count none, last

    def __getitem__(self, digest: str) -> bytes:
        return next((part for part in self._parts if digest in iter(part)), self._parts[-1])[digest]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(digest for part in self._parts for digest in part))

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Bytes:
    """Bytes on their way into JSON, which would take them for text."""

    def __init__(self, body: bytes | bytearray | memoryview) -> None:
        self.body = bytes(body)


# ---------------------------------------------------------------- writing


class Shelf:
    """The artifacts of one value that is being written.

    Args:
        of: whose value it is, for errors.

    Attributes:
        references: how many places of the value refer to an artifact.
        refusal: why something was refused, which pydantic would tell in its own words.
    """

    def __init__(self, of: str) -> None:
        self._of = of
        self.artifacts: dict[str, bytes] = {}
        self.references = 0
        self.refusal: DurableError | None = None

    def put(self, value: Any) -> Any:
        """Keep a value that JSON cannot hold; give what stands for it there.

        Raises:
            TypeError: it is no artifact. IllegalTaskOutputError, PayloadTooLargeError: it is one that cannot be kept.
        """
        try:
            return self._put(value)
        except DurableError as refusal:
            self.refusal = refusal
            raise

    def _put(self, value: Any) -> Any:
        if isinstance(value, Bytes):
            return self._keep("bytes", value.body, f"{len(value.body)} bytes")
        numpy, pandas, pyarrow, polars = map(sys.modules.get, ("numpy", "pandas", "pyarrow", "polars"))
        if numpy and isinstance(value, numpy.bool_ | numpy.integer | numpy.floating):
            return value.item()
        if numpy and isinstance(value, numpy.ndarray):
            return self._keep("npy", self._array(numpy, value), f"array of {value.dtype}, shape {value.shape}")
        if pandas and isinstance(value, pandas.DataFrame):
            return self._keep("pandas", self._frame(pandas, value), f"pandas DataFrame, shape {value.shape}")
        if pyarrow and isinstance(value, pyarrow.Table):
            return self._keep("arrow", _arrow_bytes(value), f"pyarrow Table, shape {value.shape}")
        if polars and isinstance(value, polars.DataFrame):
            return self._keep("polars", self._polars(value), f"polars DataFrame, shape {value.shape}")
        if pandas and isinstance(value, pandas.Series):
            raise IllegalTaskOutputError(f"{self._of} is a pandas Series, which the log does not keep: give `series.to_frame()`.")
        raise TypeError(f"unknown type {type(value).__module__}.{type(value).__qualname__}")

    def _keep(self, form: str, body: bytes, words: str) -> dict[str, object]:
        if len(body) > MAX_ARTIFACT_BYTES:
            raise PayloadTooLargeError(
                f"{self._of} is an artifact of {len(body) / 2**20:.0f} MiB ({words}); the log takes "
                f"{MAX_ARTIFACT_BYTES // 2**20} MiB each. Write it to a file and give its path."
            )
        digest = hashlib.sha256(body).hexdigest()
        self.artifacts[digest] = body
        self.references += 1
        return {KEY: words, "form": form, "sha256": digest, "bytes": len(body)}

    def _array(self, numpy: Any, array: Any) -> bytes:
        if type(array) is not numpy.ndarray and not isinstance(array, numpy.memmap):
            raise IllegalTaskOutputError(
                f"{self._of} is a {type(array).__qualname__}, of which only the plain array could be kept: give numpy.asarray(…)."
            )
        file = io.BytesIO()
        try:
            if array.dtype.hasobject:
                raise ValueError("it holds Python objects")
            numpy.lib.format.write_array(file, numpy.asarray(array), allow_pickle=False)
        except ValueError as error:
            raise IllegalTaskOutputError(
                f"{self._of} is an array of dtype {array.dtype}, which only pickle could keep ({error}): "
                "give it a dtype of numbers, dates or text, or give a list."
            ) from None
        return file.getvalue()

    def _frame(self, pandas: Any, frame: Any) -> bytes:
        if type(frame) is not pandas.DataFrame:
            raise IllegalTaskOutputError(
                f"{self._of} is a {type(frame).__qualname__}, of which only the plain table could be kept: give DataFrame(…)."
            )
        pyarrow = _pyarrow(f"{self._of} is a pandas DataFrame, which is kept as Arrow")
        try:
            body = _arrow_bytes(pyarrow.Table.from_pandas(frame, preserve_index=None))
        except (pyarrow.ArrowException, TypeError, ValueError) as error:
            raise IllegalTaskOutputError(
                f"{self._of} is a DataFrame that Arrow cannot hold ({error}): give each column one type, and every column a name."
            ) from None
        self._refuse_changed(frame, _read_arrow(body).to_pandas())
        return body

    def _refuse_changed(self, frame: Any, back: Any) -> None:
        """Refuse a table whose types Arrow does not give back, such as a column of objects that are all numbers."""
        for name, ours, theirs in zip(frame.columns, frame.dtypes, back.dtypes, strict=True):
            if ours != theirs:
                raise IllegalTaskOutputError(
                    f"{self._of} is a DataFrame whose column {name!r} would come back as {theirs} instead of {ours}: "
                    "convert it with astype first."
                )
        if not frame.index.equals(back.index) or not frame.columns.equals(back.columns):
            raise IllegalTaskOutputError(
                f"{self._of} is a DataFrame whose index Arrow does not give back: give `frame.reset_index()`."
            )

    def _polars(self, frame: Any) -> bytes:
        file = io.BytesIO()
        try:
            frame.write_ipc(file)
        except BaseException as error:  # polars raises panics of its own for columns of Python objects
            if isinstance(error, SystemExit | KeyboardInterrupt):
                raise
            raise IllegalTaskOutputError(f"{self._of} is a polars DataFrame that Arrow cannot hold ({error}).") from None
        return file.getvalue()


def _arrow_bytes(table: Any) -> bytes:
    ipc = importlib.import_module("pyarrow.ipc")
    file = io.BytesIO()
    with ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    return file.getvalue()


def _pyarrow(why: str) -> Any:
    try:
        pyarrow = importlib.import_module("pyarrow")
    except ImportError:
        raise IllegalTaskOutputError(
            f"{why}, and pyarrow is not installed: `pip install pyarrow`, or give plain lists."
        ) from None
    if tuple(int(part) for part in pyarrow.__version__.split(".")[:3] if part.isdecimal()) < OLDEST_PYARROW:
        raise IllegalTaskOutputError(f"{why}, and pyarrow {pyarrow.__version__} is too old: `pip install -U pyarrow`.")
    return pyarrow


# ---------------------------------------------------------------- reading


def referred(text: str) -> set[str]:
    """Give the hashes of the artifacts that a payload's text refers to; none, where it is no text with artifacts."""
    found: set[str] = set()
    todo: list[Any] = [from_json(text)] if text.startswith(MARK) else []
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            if KEY in value and isinstance(value.get("sha256"), str):
                found.add(value["sha256"])
            todo += value.values()
        elif isinstance(value, list):
            todo += value
    return found


def restore(value: Any, artifacts: Mapping[str, bytes]) -> Any:
    """Give a JSON value with its artifacts in place.

    Raises:
        ArtifactError: one is missing, damaged, or not of the form that is said.
    """
    if isinstance(value, list):
        return [restore(item, artifacts) for item in value]
    if not isinstance(value, dict):
        return value
    if KEY not in value:
        return {key: restore(item, artifacts) for key, item in value.items()}
    form, digest = value.get("form"), value.get("sha256")
    reader = READERS.get(form) if isinstance(form, str) else None
    if reader is None or not isinstance(digest, str):
        raise ArtifactError(f"A payload of the log refers to an artifact in a way that this durable_nb does not know: {value!r}.")
    try:
        body = artifacts[digest]
    except KeyError:
        raise ArtifactError(f"The artifact {digest[:12]}… ({value[KEY]}) is not with its payload.") from None
    if hashlib.sha256(body).hexdigest() != digest:
        raise ArtifactError(f"The artifact {digest[:12]}… ({value[KEY]}) is damaged in the log: restore a copy.")
    try:
        return reader(body)
    except ImportError as error:
        raise ArtifactError(
            f"The artifact {digest[:12]}… ({value[KEY]}) cannot be read here: {error}. Install what it needs."
        ) from None
    except Exception as error:  # whatever a reader says of bytes that are not of its form
        raise ArtifactError(
            f"The artifact {digest[:12]}… is no {form}, as its payload says: {type(error).__name__}: {error}."
        ) from None


def _read_npy(body: bytes) -> Any:
    file = io.BytesIO(body)
    return importlib.import_module("numpy.lib.format").read_array(file, allow_pickle=False)


def _read_arrow(body: bytes) -> Any:
    _pyarrow("An Arrow artifact is read")
    return importlib.import_module("pyarrow.ipc").open_stream(io.BytesIO(body)).read_all()


def _read_pandas(body: bytes) -> Any:
    importlib.import_module("pandas")
    return _read_arrow(body).to_pandas()


def _read_polars(body: bytes) -> Any:
    return importlib.import_module("polars").read_ipc(io.BytesIO(body))


READERS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "npy": _read_npy,
    "pandas": _read_pandas,
    "arrow": _read_arrow,
    "polars": _read_polars,
}


# ---------------------------------------------------------------- types

TYPES = {("numpy", "ndarray"), ("pandas", "DataFrame"), ("pyarrow", "Table"), ("polars", "DataFrame")}


def is_artifact_type(annotation: object) -> bool:
    """Whether an annotation names a class whose values are artifacts; bytes, which pydantic knows, do not count."""
    bases = getattr(annotation, "__mro__", ())
    return any((base.__module__.partition(".")[0], base.__name__) in TYPES for base in bases)
