"""A captured definition as plain data: what the log keeps of a task's code.

Invariant: a record holds text and nothing else, and reading one executes nothing; `rebuild` is the only place where captured
code comes to life. The JSON form is canonical (one text per definition), so that it can be signed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from durable_nb.errors import LogError, NewerLogError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_FORMAT = 1
_STRICT = {"extra": "forbid", "strict": True}


@dataclass(frozen=True, kw_only=True)
class Import:
    """`import module as name`.

    Attributes:
        submodules: modules below it that the code reaches by attribute, and which `import module` alone would not load.
        sha256: hash of the module's own files if it is a local one, which can change without any version.
    """

    __pydantic_config__ = _STRICT
    name: str
    module: str
    submodules: tuple[str, ...] = ()
    sha256: str | None = None
    kind: Literal["import"] = "import"


@dataclass(frozen=True, kw_only=True)
class FromImport:
    """`from module import attribute as name`; `attribute` may be dotted (a class within a class)."""

    __pydantic_config__ = _STRICT
    name: str
    module: str
    attribute: str
    sha256: str | None = None
    kind: Literal["from"] = "from"


@dataclass(frozen=True, kw_only=True)
class Code:
    """A helper function, class or type alias of the notebook, as its source.

    Attributes:
        first_line: the line of its cell on which the source begins.
        future_annotations: whether `from __future__ import annotations` was in force where it was defined.
    """

    __pydantic_config__ = _STRICT
    name: str
    source: str
    first_line: int
    future_annotations: bool = False
    kind: Literal["code"] = "code"


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A value frozen at definition, as JSON text (see `values`)."""

    __pydantic_config__ = _STRICT
    name: str
    value: str
    kind: Literal["constant"] = "constant"


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Something that the host itself binds again: its app object ("app"), a task ("task:score"), this very task ("self")."""

    __pydantic_config__ = _STRICT
    name: str
    target: str
    kind: Literal["reference"] = "reference"


Binding = Import | FromImport | Code | Constant | Reference


@dataclass(frozen=True, kw_only=True)
class Lost:
    """A name that the task uses and that cannot be kept with it. `str()` is the sentence for the person.

    Attributes:
        name: the variable.
        type_name: the type of its value, "undefined" if it has none yet.
        line: the line of the cell that uses it.
        used_by: the function or class on that line.
        advice: what to do about it.

    Example:
        >>> print(Lost(name="df", type_name="pandas.DataFrame", line=7, used_by="score", advice="pass it as input"))
        `df` (pandas.DataFrame), which `score` uses on line 7, cannot be kept with the task: pass it as input.
    """

    __pydantic_config__ = _STRICT
    name: str
    type_name: str
    line: int
    used_by: str
    advice: str

    def __str__(self) -> str:
        if self.type_name == UNDEFINED:
            return f"`{self.name}`, which `{self.used_by}` uses on line {self.line}, is not defined: {self.advice}."
        return (
            f"`{self.name}` ({self.type_name}), which `{self.used_by}` uses on line {self.line}, "
            f"cannot be kept with the task: {self.advice}."
        )


UNDEFINED = "undefined"


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A task function with all that it needs, from which `rebuild` makes it again in a namespace of its own.

    Attributes:
        name: the function's name.
        source: its text, dedented, without the task's decorators. A decorator that wraps the function itself (one below the
            task's) is part of what runs and is kept.
        first_line: the line of the cell on which `source` begins.
        bindings: what the source needs, in an order in which it can be executed.
        lost: what it needs and cannot be kept. A definition with losses works until the kernel restarts.
        version: hash of the code's meaning, see `normal.version_of`. It is a label, not a proof: only a signature over
            `to_json()` says who wrote the code.
        future_annotations: whether `from __future__ import annotations` was in force.

    Example:
        >>> definition = capture(score)  # doctest: +SKIP
        >>> Definition.from_json(definition.to_json()) == definition  # doctest: +SKIP
        True
    """

    __pydantic_config__ = _STRICT
    name: str
    source: str
    first_line: int
    bindings: tuple[Binding, ...]
    lost: tuple[Lost, ...]
    version: str
    future_annotations: bool = False

    @property
    def is_restorable(self) -> bool:
        """Whether the function can be rebuilt after a restart, without its cell."""
        return not self.lost

    def to_json(self) -> str:
        """Write the definition as canonical JSON: ASCII, sorted keys, no spaces."""
        return json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    @staticmethod
    def from_json(text: str) -> Definition:
        """Read what `to_json` wrote; nothing of it is executed.

        Raises:
            LogError: it is no definition.
            NewerLogError: a newer durable_nb wrote it.
        """
        try:
            fields = json.loads(text)
            if not isinstance(fields, dict):
                raise ValueError("no object")
            written_as = fields.pop("format", None)
            if isinstance(written_as, int) and written_as > _FORMAT:
                raise NewerLogError(
                    f"The definition was written in format {written_as}, this durable_nb reads up to {_FORMAT}. "
                    "Update durable_nb, or run the task's cell again."
                )
            if written_as != _FORMAT:
                raise ValueError("no format")
            definition = _adapter().validate_json(json.dumps(fields))
            _check(definition)
        except (ValueError, RecursionError) as error:  # pydantic's ValidationError is a ValueError
            raise LogError(
                f"A definition in the log cannot be read ({_first_line(error)}). Run the task's cell again to replace it."
            ) from error
        return definition


def _check(definition: Definition) -> None:
    """Refuse what no capture writes, so that names and versions can be used without a second look."""
    named: Iterable[Binding | Definition] = (definition, *definition.bindings)
    if not all(item.name.isidentifier() for item in named):
        raise ValueError("a name is no Python name")
    if len({binding.name for binding in definition.bindings}) < len(definition.bindings):
        raise ValueError("a name is bound twice")
    if len(definition.version) != 16 or not set(definition.version) <= set("0123456789abcdef"):
        raise ValueError("the version is no hash")
    if any(item.first_line < 1 for item in (definition, *definition.bindings) if isinstance(item, Definition | Code)):
        raise ValueError("a line number is below 1")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@lru_cache(maxsize=1)
def _adapter() -> TypeAdapter[Definition]:
    from pydantic import TypeAdapter

    return TypeAdapter(Definition)
