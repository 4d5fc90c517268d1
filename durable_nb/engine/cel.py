"""CEL filters: compiled once, evaluated in microseconds, bounded whatever the expression and the event are.

Invariant: **the answer depends on the expression and the values alone**, not on the machine, its load or the thread. So the
budget is counted in steps (`MAX_STEPS`), never in milliseconds: an event that matched before a crash matches after it too.

cel-python gives the grammar; the evaluation is done here, by a tree of closures over plain Python values. Of cel-python
0.5.0's own runners the interpreter takes 120-300 µs for a simple filter and the transpiler 50-120 µs (printing each error on
stderr), against 0.5-1.5 µs here and 4 µs for checking a payload of 25 values; in both an int against a double is an error,
neither can be stopped, and most operators and functions would have to be replaced. Its lexer backtracks exponentially on
some strings, so it never sees what is inside a string: `_Source` blanks literals out, in place, and hands them to the
compiler itself.

Values. JSON numbers written without a fraction are CEL ints, others are doubles; ints, uints and doubles compare by their
mathematical value, everywhere (`==`, `<`, `in`, inside lists and maps), and values of other different types are unequal, not
an error. *Arithmetic* does not mix them, as CEL says: `input.amount * 2.0` is an error when the amount came as 100, and
`double(input.amount) * 2.0` is right for both. Results outside int64 are an error.

Limits that a user can meet:

- an expression: `MAX_EXPRESSION_BYTES`, nested at most `MAX_DEPTH` levels (chains of `&&`, `||`, `+` are one level);
- the values: `MAX_INPUT_VALUES`, `MAX_INPUT_CHARS`, `MAX_INPUT_DEPTH`, and ints of at most 256 bits (wider than int64 they
  compare exactly, and arithmetic on them overflows);
- an evaluation: `MAX_STEPS`. A step is about one node of the expression visited inside a macro, 64 characters compared,
  joined or searched, or 64 (character x instruction of the pattern) in `matches()`. 100,000 steps take 10-60 ms. A filter
  without macros takes next to none, unless it compares long lists or texts;
- `matches()` takes RE2 patterns (linear in the subject; no look-around, no back-references) of `MAX_PATTERN_CHARS`;
- not there: protobuf messages, two-variable macros, optionals (`.?`), back-quoted fields (`.true` and the like: write
  `["true"]`), extension libraries;
- a duration is an int64 of nanoseconds (292 years either way), as in Go; time-zone names need the system's or tzdata's list.
"""

from __future__ import annotations

import math
import operator
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple, NoReturn, cast

from durable_nb.errors import ExpressionError, ExpressionEvaluationError

if TYPE_CHECKING:
    from typing import Protocol

    from lark import Token, Tree

    _Tree = Tree[Token]

    class _Pattern(Protocol):
        @property
        def programsize(self) -> int: ...
        def search(self, text: str) -> object: ...

    class _RE2Options(Protocol):
        log_errors: bool
        never_capture: bool
        max_mem: int

    class _RE2(Protocol):
        """What is used of google-re2, which has no types of its own."""

        Options: type[_RE2Options]
        error: type[Exception]

        def compile(self, pattern: str, options: _RE2Options) -> _Pattern: ...


MAX_EXPRESSION_BYTES: Final = 8 * 1024
MAX_DEPTH: Final = 64
MAX_STEPS: Final = 100_000
MAX_INPUT_VALUES: Final = 100_000
MAX_INPUT_CHARS: Final = 4 * 1024 * 1024
MAX_INPUT_DEPTH: Final = 100
MAX_PATTERN_CHARS: Final = 1024
CACHED_EXPRESSIONS: Final = 512

VARIABLES: Final = ("input", "output", "additional_metadata", "event_key", "scope")

_MAX_INT_BITS: Final = 256
_CHARS_A_STEP: Final = 64
_PATTERN_WORK_A_STEP: Final = 64
_PATTERN_STEPS: Final = 200
_ZONE_STEPS: Final = 100
_DEFAULTS: Final[dict[str, object]] = {"input": None, "output": None, "additional_metadata": {}, "event_key": "", "scope": None}
_RESERVED: Final = frozenset(
    ("as", "break", "const", "continue", "else", "for", "function", "if", "import", "in", "let", "loop", "namespace", "package")
) | {"return", "var", "void", "while"}


# ---------------------------------------------------------------- the public face


class Filter:
    """A compiled expression. Immutable, so any thread may use it at any time, also several at once."""

    __slots__ = ("_locals", "_root", "expression")

    def __init__(self, expression: str, root: _Eval | None, locals_: int) -> None:
        """Use `compile_filter`. A `root` of None is the empty filter, which is always true."""
        self.expression = expression
        self._root = root
        self._locals = locals_

    def matches(
        self,
        *,
        input: object,
        output: object = None,
        additional_metadata: Mapping[str, object] | None = None,
        event_key: str = "",
        scope: str | None = None,
    ) -> bool:
        """Tell whether these JSON values fulfil the expression.

        Raises:
            ExpressionEvaluationError: a field is missing, a type does not fit, the result is no bool, or a limit was met.
        """
        if self._root is None:
            return True
        metadata = {} if additional_metadata is None else dict(additional_metadata)
        result = self._evaluate(self._root, [input, output, metadata, event_key, scope])
        if not isinstance(result, bool):
            self._fail(f"a filter must give true or false, not {_type_name(result)}; compare it with what you expect", None)
        return result

    def value(self, variables: Mapping[str, object]) -> object:
        """Give the result itself, as a plain JSON value. Variables that are not given have the defaults of `matches`."""
        if self._root is None:
            return True
        root = self._root
        values = [variables.get(name, _DEFAULTS[name]) for name in VARIABLES]
        return self._evaluate(lambda frame: _to_json(frame, root(frame)), values)

    def _evaluate(self, root: _Eval, values: list[object]) -> object:
        try:
            _check_input(values)
            return root(_Frame(values + [None] * self._locals))
        except _Fault as fault:
            self._fail(fault.message, fault.place)
        except _OutOfStepsError:
            self._fail(
                f"the budget of {MAX_STEPS:,} steps is used up; nest fewer macros, or filter on a smaller part of the input",
                None,
            )
        except RecursionError:
            self._fail("the values nest too deep to be compared; compare a part of them", None)

    def _fail(self, message: str, place: _Place | None) -> NoReturn:
        where = f" at {_where(self.expression, *place)}" if place else f" `{_shorten(self.expression)}`"
        raise ExpressionEvaluationError(f"The CEL expression{where} failed: {message}.") from None


def compile_filter(expression: str) -> Filter:
    """Compile a CEL expression, or give the one compiled before. An empty or blank one is always true.

    Raises:
        ExpressionError: it does not compile, is too long or too deep, or names what is not there.

    Example:
        >>> compile_filter("input.user_id == 42").matches(input={"user_id": 42.0})
        True
    """
    size = len(expression.encode("utf-8", "surrogatepass"))
    if size > MAX_EXPRESSION_BYTES:
        raise ExpressionError(
            f"The CEL expression `{_shorten(expression)}` has {size:,} bytes, more than the {MAX_EXPRESSION_BYTES:,} allowed: "
            "shorten it, or do this check in the task."
        )
    return _compile(expression)


def evaluate(expression: str, **variables: object) -> object:
    """Evaluate an expression on JSON values and give its result as a plain JSON value, to try a filter out.

    Args:
        expression: the CEL text.
        **variables: any of `input`, `output`, `additional_metadata`, `event_key`, `scope`.

    Raises:
        ExpressionError: it does not compile, or a variable is given that no filter has.
        ExpressionEvaluationError: it failed on these values.

    Example:
        >>> evaluate("input.ids.filter(i, i > 1)", input={"ids": [1, 2, 3]})
        [2, 3]
    """
    unknown = sorted(variables.keys() - set(VARIABLES))
    if unknown:
        raise ExpressionError(f"A filter has no variable `{unknown[0]}`: give {_listed(VARIABLES)}.")
    return compile_filter(expression).value(variables)


@lru_cache(maxsize=CACHED_EXPRESSIONS)
def _compile(expression: str) -> Filter:
    if not expression.strip():
        return Filter(expression, None, 0)
    try:
        source = _Source(expression)
        compiler = _Compiler(source)
        root = compiler.build(_parse(source), {})
    except RecursionError:
        raise ExpressionError(f"The CEL expression `{_shorten(expression)}` nests too deep: split it, or flatten it.") from None
    return Filter(expression, root, compiler.max_locals)


# ---------------------------------------------------------------- places and faults


class _Place(NamedTuple):
    """A part of the expression's text. `start` is None where the parser knows no position."""

    start: int | None
    end: int | None


class _Fault(Exception):  # noqa: N818  turned into ExpressionEvaluationError at the edge
    """An error as CEL means it: a value of an expression, that `&&`, `||`, `all` and `exists` may absorb."""

    def __init__(self, message: str, place: _Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place

    def at(self, place: _Place) -> _Fault:
        """Say where it happened, unless that is known already."""
        if self.place is None:
            self.place = place
        return self


class _OutOfStepsError(Exception):
    """The budget is used up. No `_Fault`, because nothing may absorb it."""


def _shorten(text: str) -> str:
    flat = " ".join(text[:200].split())
    return flat if len(flat) <= 60 else f"{flat[:57]}..."


def _where(text: str, start: int | None, end: int | None) -> str:
    """`snippet` (line 1, column 7)."""
    position = start or 0
    line = text.count("\n", 0, position) + 1
    column = position - text.rfind("\n", 0, position)
    snippet = _shorten(text[position:end])
    return f"`{snippet}` (line {line}, column {column})" if snippet else f"its end (line {line}, column {column})"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}"


# ---------------------------------------------------------------- from text to tree


class _Source:
    """An expression's text with every string, bytes literal and comment blanked out in place.

    `masked` has the same length as `text`, so a position in one is a position in the other; `literals` holds the blanked
    literals by position. Brackets are counted here, because this is the one linear pass that comes before the parser. A comma
    before a closing `]` or `}`, which CEL allows and cel-python's grammar does not, is blanked too.
    """

    _PIECE = r"//[^\n]*|(?P<prefix>[rR][bB]?|[bB][rR]?)?(?P<quote>\"\"\"|'''|\"|')|\w+|\s+|."

    def __init__(self, text: str) -> None:
        self.text = text
        self.literals: dict[int, str | bytes] = {}
        self.masked = self._scan()

    def error(self, message: str, start: int | None, end: int | None = None) -> ExpressionError:
        """Make the one sentence that names the place."""
        return ExpressionError(f"The CEL expression does not compile at {_where(self.text, start, end)}: {message}.")

    def _scan(self) -> str:
        masked = list(self.text)
        tokens = re.compile(self._PIECE, re.DOTALL)
        position = depth = 0
        before, last, last_at = "", "", 0
        while position < len(self.text):
            match = cast("re.Match[str]", tokens.match(self.text, position))
            start, position, piece = position, match.end(), match.group()
            if match["quote"]:
                position = self._literal(start, match["prefix"] or "", match["quote"], position)
                masked[start:position] = f"'{'_' * (position - start - 2)}'"
            elif piece.startswith("//"):
                masked[start:position] = " " * len(piece)
                continue
            elif piece.isspace():
                continue
            elif piece in ("(", "[", "{"):
                depth += 1
                if depth > MAX_DEPTH:
                    message = f"it nests deeper than {MAX_DEPTH} levels; split it, or flatten it"
                    raise self.error(message, start, start + 1)
            elif piece in (")", "]", "}"):
                depth -= 1
                if last == "," and piece != ")" and before not in ("", ",", "(", "[", "{", ":"):
                    masked[last_at] = " "
            elif piece in ("true", "false") and last == ".":
                raise self.error(f'a field of that name is written ["{piece}"], without the dot', start, position)
            before, last, last_at = last, piece, start
        return "".join(masked)

    def _literal(self, start: int, prefix: str, quote: str, position: int) -> int:
        """Read the literal whose opening quote ends at `position`; give the position behind it."""
        raw = "r" in prefix.lower()
        newline = "" if len(quote) == 3 else "|[\r\n]"
        stop = re.compile(f"{quote}{newline}" if raw else rf"\\.|{quote}{newline}", re.DOTALL)
        for match in stop.finditer(self.text, position):
            found = match.group()
            if found == quote:
                body = self.text[position : match.start()]
                if "b" in prefix.lower():
                    self.literals[start] = body.encode("utf-8", "surrogatepass") if raw else self._unescape_bytes(body, position)
                else:
                    self.literals[start] = body if raw else self._unescape(body, position)
                return match.end()
            if found in "\r\n":
                break
        raise self.error(f"this string is not closed; end it with {quote}", start, start + 12)

    _ESCAPE = r"(?s)\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.)|$)"
    _SIMPLE: ClassVar = dict(zip("abfnrtv\\?\"'`", "\a\b\f\n\r\t\v\\?\"'`", strict=True))

    def _escaped(self, match: re.Match[str], offset: int) -> tuple[int, bool]:
        """Give the code of an escape, and whether it stands for a byte (hexadecimal, octal) rather than a character."""
        byte, short, long, octal, simple = match.groups()
        place = (offset + match.start(), offset + match.end())
        if byte or octal:
            return int(byte, 16) if byte else int(octal, 8), True
        if short or long:
            code = int(short or long, 16)
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                raise self.error("this is not a Unicode character; use one below U+110000 that is no surrogate", *place)
            return code, False
        if simple not in self._SIMPLE:
            raise self.error(r"CEL has no such escape; write \\ for a backslash, or a raw string r'...'", *place)
        return ord(self._SIMPLE[simple]), False

    def _unescape(self, body: str, offset: int) -> str:
        return re.sub(self._ESCAPE, lambda match: chr(self._escaped(match, offset)[0]), body)

    def _unescape_bytes(self, body: str, offset: int) -> bytes:
        parts, position = bytearray(), 0
        for match in re.finditer(self._ESCAPE, body):
            parts += body[position : match.start()].encode("utf-8", "surrogatepass")
            code, is_byte = self._escaped(match, offset)
            parts += bytes([code]) if is_byte else chr(code).encode()
            position = match.end()
        return bytes(parts + body[position:].encode("utf-8", "surrogatepass"))


_parser_lock = threading.Lock()


def _parse(source: _Source) -> _Tree:
    """Parse with cel-python's grammar. Its parser is one for the process and is built (80 ms) by the first expression.

    It is made with the transpiler's tree class, which serves both of cel-python's runners: a notebook that uses cel-python
    itself finds it usable. `celpy.Environment` is left alone: it raises the process's recursion limit.
    """
    from celpy.celparser import CELParseError, CELParser
    from celpy.evaluation import TranspilerTree
    from lark.exceptions import UnexpectedToken

    with _parser_lock:
        try:
            return cast("_Tree", CELParser(tree_class=TranspilerTree).parse(source.masked))
        except CELParseError as error:
            cause = error.__context__
    if isinstance(cause, UnexpectedToken) and cause.token.type == "$END":
        raise source.error("it ends too early; close what is open, and complete the last operation", len(source.text))
    start: int = getattr(cause, "pos_in_stream", None) or 0
    raise source.error(_parse_advice(source.masked, start), start, start + 12)


def _parse_advice(masked: str, start: int) -> str:
    if masked.startswith("=", start):
        return "CEL compares with =="
    if masked[start : start + 1] in ("&", "|"):
        return "CEL writes && and ||"
    if re.search(r"(?<![.\w])(and|or|not)\b", masked):
        return "CEL writes &&, || and ! for and, or and not"
    return "this cannot stand here; look for a missing operator, comma, quote or bracket before it"


# ---------------------------------------------------------------- values

# Subclasses of int and str: they hash and compare as such, and `type(x)` still tells them apart.


class _Uint(int):
    """An unsigned 64-bit integer."""


class _Timestamp(int):
    """Nanoseconds since 1970-01-01T00:00:00Z."""


class _Duration(int):
    """A number of nanoseconds."""


class _Type(str):
    """A type as a value: its CEL name."""

    __slots__ = ()


class _BoolKey:
    """true or false as a key of a map. In a Python dict `True` and `1` would be the same key."""

    __slots__ = ("value",)

    def __init__(self, value: bool) -> None:
        self.value = value


_BOOL_KEYS: Final = {True: _BoolKey(True), False: _BoolKey(False)}
_TYPE_NAMES: Final[dict[type, str]] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    _Uint: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    list: "list",
    dict: "map",
    _Timestamp: "google.protobuf.Timestamp",
    _Duration: "google.protobuf.Duration",
    _Type: "type",
}
_TYPES: Final = {name: _Type(name) for name in _TYPE_NAMES.values()}
_SCALARS: Final = frozenset({type(None), bool, float})
_NUMBERS: Final = frozenset({int, _Uint, float})
_TEXTS: Final = frozenset({str, bytes})
_ORDERED: Final = frozenset({bool, str, bytes, _Timestamp, _Duration})

_INT_MIN, _INT_MAX, _UINT_MAX = -(2**63), 2**63 - 1, 2**64 - 1
_NANOS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMESTAMP_MIN: Final = -62_135_596_800 * _NANOS
_TIMESTAMP_MAX: Final = 253_402_300_800 * _NANOS - 1


class _Frame:
    """One evaluation: the variables (the filter's own, then one for each level of macros) and the steps that are left.

    Written only by the thread that evaluates.
    """

    __slots__ = ("slots", "steps")

    def __init__(self, slots: list[object]) -> None:
        self.slots = slots
        self.steps = MAX_STEPS

    def charge(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise _OutOfStepsError

    def charge_text(self, text: str | bytes) -> None:
        self.charge(len(text) // _CHARS_A_STEP)


_Eval = Callable[[_Frame], object]
_Overload = Callable[..., object]


def _type_name(value: object) -> str:
    return _TYPE_NAMES.get(type(value), type(value).__name__)


def _check_input(values: list[object]) -> None:
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
                if item.bit_length() > _MAX_INT_BITS:
                    raise _Fault(f"the input holds an integer of more than {_MAX_INT_BITS} bits; send it as a string")
            elif kind is dict:
                below += item.values()
                try:
                    chars += len("".join(item))
                except TypeError:
                    raise _Fault("the input holds a map with keys that are no strings; give it string keys") from None
            elif kind is list:
                below += item
            elif kind not in _SCALARS:
                raise _Fault(f"the input holds a {kind.__name__} that is no JSON value; give the filter what JSON can hold")
        seen += len(below)
        if seen > MAX_INPUT_VALUES or chars > MAX_INPUT_CHARS:
            message = f"the input has more than {MAX_INPUT_VALUES:,} values or {MAX_INPUT_CHARS:,} characters"
            raise _Fault(f"{message}; send a smaller event, with a reference to the rest")
        if not below:
            return
        level = below
    raise _Fault(f"the input nests deeper than {MAX_INPUT_DEPTH} levels; send a flatter event")


def _to_json(frame: _Frame, value: object) -> object:
    """A CEL value as proto3's JSON mapping gives it: bytes in base64, times as text, keys as strings.

    It takes steps too: a result may hold one part of the input many times.
    """
    frame.charge(1)
    if isinstance(value, list):
        return [_to_json(frame, item) for item in value]
    if isinstance(value, dict):
        return {_key_text(key): _to_json(frame, item) for key, item in value.items()}
    if isinstance(value, bytes):
        from base64 import b64encode

        return b64encode(value).decode("ascii")
    if isinstance(value, _Timestamp | _Duration):
        return _to_string(frame, value)
    if isinstance(value, _Uint):
        return int(value)
    return str(value) if isinstance(value, _Type) else value


def _key_text(key: object) -> str:
    if isinstance(key, _BoolKey):
        return "true" if key.value else "false"
    return str(key)


def _shown(key: object) -> str:
    """A key in a message. Only a part of a long one: a fault must cost no more than what it reports."""
    return repr(_shorten(key)) if isinstance(key, str) else _key_text(key)


# ---------------------------------------------------------------- equality, order, membership


def _equal(frame: _Frame, left: object, right: object) -> bool:
    """CEL's equality: numbers by value, other different types unequal, lists and maps by their parts, NaN never."""
    kind = type(left)
    other = type(right)
    if kind in _NUMBERS and other in _NUMBERS:
        return left == right
    if kind is not other:
        return False
    if isinstance(left, list) and isinstance(right, list):
        if len(left) != len(right):
            return False
        frame.charge(len(left))
        return all(_equal(frame, mine, yours) for mine, yours in zip(left, right, strict=True))
    if isinstance(left, dict) and isinstance(right, dict):
        if len(left) != len(right):
            return False
        frame.charge(len(left))
        return all(key in right and _equal(frame, item, right[key]) for key, item in left.items())
    if isinstance(left, str | bytes):
        frame.charge_text(left)
    return left == right


def _lookup_key(frame: _Frame, value: object) -> object:
    """What to look up in a map for this value, or None if no map has such a key."""
    if type(value) is str:
        frame.charge_text(value)
        return value
    if type(value) is bool:
        return _BOOL_KEYS[value]
    return value if type(value) in _NUMBERS else None


def _contains(frame: _Frame, item: object, container: object) -> bool:
    """`item in container`, for a list or the keys of a map."""
    if isinstance(container, list):
        for candidate in container:
            frame.charge(1)
            if _equal(frame, item, candidate):
                return True
        return False
    if isinstance(container, dict):
        key = _lookup_key(frame, item)
        return key is not None and key in container
    raise _Fault(f"`in` needs a list or a map on its right, not {_type_name(container)}")


def _ordered(compare: Callable[..., bool], sign: str) -> _Overload:
    def order(frame: _Frame, left: object, right: object) -> bool:
        kind, other = type(left), type(right)
        if kind in _NUMBERS and other in _NUMBERS:
            return compare(left, right)
        if kind is not other or kind not in _ORDERED:
            raise _Fault(f"`{sign}` cannot order {_type_name(left)} and {_type_name(right)}; convert one side")
        if isinstance(left, str | bytes):
            frame.charge_text(left)
        return compare(left, right)

    return order


_RELATIONS: Final[dict[str, _Overload]] = {
    "relation_eq": _equal,
    "relation_ne": lambda frame, left, right: not _equal(frame, left, right),
    "relation_in": _contains,
    "relation_lt": _ordered(operator.lt, "<"),
    "relation_le": _ordered(operator.le, "<="),
    "relation_gt": _ordered(operator.gt, ">"),
    "relation_ge": _ordered(operator.ge, ">="),
}


# ---------------------------------------------------------------- arithmetic


def _int(value: int) -> int:
    if not _INT_MIN <= value <= _INT_MAX:
        raise _Fault("the result is out of the range of int (64 bits); use double() if it need not be exact")
    return value


def _uint(value: int) -> _Uint:
    if not 0 <= value <= _UINT_MAX:
        raise _Fault("the result is out of the range of uint (0 to 64 bits); use int() for what may be negative")
    return _Uint(value)


def _timestamp(value: int) -> _Timestamp:
    if not _TIMESTAMP_MIN <= value <= _TIMESTAMP_MAX:
        raise _Fault("the timestamp is out of range; keep it within the years 0001 to 9999")
    return _Timestamp(value)


def _duration(value: int) -> _Duration:
    if not _INT_MIN <= value <= _INT_MAX:
        raise _Fault("the duration is out of range; keep it within 292 years")
    return _Duration(value)


def _quotient(left: int, right: int) -> int:
    if right == 0:
        raise _Fault("division by zero; test the divisor first")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _remainder(left: int, right: int) -> int:
    return left - right * _int(_quotient(left, right))


def _divide_doubles(left: float, right: float) -> float:
    if right:
        return left / right
    if left == 0 or math.isnan(left) or math.isnan(right):
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def _join(frame: _Frame, left: str | bytes, right: str | bytes) -> str | bytes:
    frame.charge((len(left) + len(right)) // _CHARS_A_STEP)
    return cast("str", left) + cast("str", right)


def _join_lists(frame: _Frame, left: list[object], right: list[object]) -> list[object]:
    frame.charge((len(left) + len(right)) // 8)
    return left + right


_ARITHMETIC: Final[dict[str, dict[tuple[type, type], _Overload]]] = {
    "+": {
        (int, int): lambda _, a, b: _int(a + b),
        (_Uint, _Uint): lambda _, a, b: _uint(int(a) + int(b)),
        (float, float): lambda _, a, b: a + b,
        (str, str): _join,
        (bytes, bytes): _join,
        (list, list): _join_lists,
        (_Timestamp, _Duration): lambda _, a, b: _timestamp(int(a) + int(b)),
        (_Duration, _Timestamp): lambda _, a, b: _timestamp(int(a) + int(b)),
        (_Duration, _Duration): lambda _, a, b: _duration(int(a) + int(b)),
    },
    "-": {
        (int, int): lambda _, a, b: _int(a - b),
        (_Uint, _Uint): lambda _, a, b: _uint(int(a) - int(b)),
        (float, float): lambda _, a, b: a - b,
        (_Timestamp, _Timestamp): lambda _, a, b: _duration(int(a) - int(b)),
        (_Timestamp, _Duration): lambda _, a, b: _timestamp(int(a) - int(b)),
        (_Duration, _Duration): lambda _, a, b: _duration(int(a) - int(b)),
    },
    "*": {
        (int, int): lambda _, a, b: _int(a * b),
        (_Uint, _Uint): lambda _, a, b: _uint(int(a) * int(b)),
        (float, float): lambda _, a, b: a * b,
    },
    "/": {
        (int, int): lambda _, a, b: _int(_quotient(a, b)),
        (_Uint, _Uint): lambda _, a, b: _uint(_quotient(int(a), int(b))),
        (float, float): lambda _, a, b: _divide_doubles(a, b),
    },
    "%": {
        (int, int): lambda _, a, b: _int(_remainder(a, b)),
        (_Uint, _Uint): lambda _, a, b: _uint(int(a) % int(b) if b else _quotient(int(a), int(b))),
    },
}


def _no_overload(sign: str, left: object, right: object) -> _Fault:
    advice = "use double(...) on the int" if {type(left), type(right)} == {int, float} else "convert one side"
    return _Fault(f"CEL has no {_type_name(left)} {sign} {_type_name(right)}; {advice}")


def _negate(_: _Frame, value: object) -> object:
    if type(value) is int:
        return _int(-value)
    if type(value) is float:
        return -value
    raise _Fault(f"CEL has no -{_type_name(value)}; negate an int or a double")


def _not(_: _Frame, value: object) -> object:
    if value is True or value is False:
        return not value
    raise _Fault(f"CEL has no !{_type_name(value)}; compare it to get a bool")


def _index(frame: _Frame, container: object, key: object) -> object:
    if isinstance(container, dict):
        found = _lookup_key(frame, key)
        if found is None:
            raise _Fault(f"a map has no keys of the type {_type_name(key)}; use a string")
        try:
            return container[found]
        except KeyError:
            raise _Fault(f"there is no key {_shown(found)}; test with `in` first") from None
    if not isinstance(container, list):
        raise _Fault(f"{_type_name(container)} has no [...]; index a list or a map")
    if not isinstance(key, int | float) or type(key) not in _NUMBERS or key != key // 1:
        raise _Fault(f"a list is not indexed by the {_type_name(key)} {_shown(key)}; use a whole number")
    if not 0 <= key < len(container):
        raise _Fault(f"the index {int(key)} is out of range; the list has {len(container)} items, test size() first")
    return container[int(key)]


# ---------------------------------------------------------------- functions


def _mismatch(name: str, *values: object) -> _Fault:
    return _Fault(f"{name}() does not take {', '.join(map(_type_name, values))}; convert the value first")


def _unreadable(name: str, text: str, example: str) -> _Fault:
    return _Fault(f"{name}() cannot read {_shorten(text)!r}; write it like {example}")


def _size(_: _Frame, value: object) -> object:
    if isinstance(value, list | dict) or type(value) in _TEXTS:
        return len(cast("str", value))
    raise _mismatch("size", value)


def _on_strings(name: str, test: Callable[[str, str], bool]) -> _Overload:
    def call(frame: _Frame, subject: object, part: object) -> object:
        if type(subject) is not str or type(part) is not str:
            raise _mismatch(name, subject, part)
        frame.charge((len(subject) + len(part)) // _CHARS_A_STEP)
        return test(subject, part)

    return call


@lru_cache(maxsize=128)
def _pattern(pattern: str) -> _Pattern:
    """Compile with RE2, which comes with cel-python. Capturing is off and memory small: only yes or no is asked."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise _Fault(f"matches() takes patterns of at most {MAX_PATTERN_CHARS:,} characters; shorten it")
    from importlib import import_module

    re2 = cast("_RE2", import_module("re2"))
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0].decode("utf-8", "replace") if isinstance(error.args[0], bytes) else str(error.args[0])
        raise _Fault(f"matches() cannot read the pattern ({reason}); use RE2's syntax") from None


def _matches(frame: _Frame, subject: object, pattern: object) -> object:
    if type(subject) is not str or type(pattern) is not str:
        raise _mismatch("matches", subject, pattern)
    compiled = _pattern(pattern)
    frame.charge(1 + len(subject) * compiled.programsize // _PATTERN_WORK_A_STEP)
    try:
        return compiled.search(subject) is not None
    except UnicodeEncodeError:
        raise _Fault("matches() cannot read a text with lone surrogates; mend it where it is sent") from None


def _matches_dynamic(frame: _Frame, subject: object, pattern: object) -> object:
    """`matches` with a pattern that is not a literal: it may have to be compiled for this one subject."""
    frame.charge(_PATTERN_STEPS)
    return _matches(frame, subject, pattern)


def _to_int(_: _Frame, value: object) -> object:
    if isinstance(value, _Timestamp):
        return int(value) // _NANOS
    if isinstance(value, int) and type(value) in (int, _Uint):
        return _int(int(value))
    if type(value) is float:
        if not float(_INT_MIN) < value < float(_INT_MAX):
            raise _Fault("the double is out of the range of int (64 bits); test it first")
        return int(value)
    if type(value) is str:
        if not re.fullmatch(r"[+-]?[0-9]{1,40}", value):
            raise _unreadable("int", value, "'42'")
        return _int(int(value))
    raise _mismatch("int", value)


def _to_uint(_: _Frame, value: object) -> object:
    if isinstance(value, int) and type(value) in (int, _Uint):
        return _uint(int(value))
    if type(value) is float:
        if not 0 <= value < float(_UINT_MAX):
            raise _Fault("the double is out of the range of uint (0 to 64 bits); test it first")
        return _Uint(int(value))
    if type(value) is str:
        if not re.fullmatch(r"\+?[0-9]{1,40}", value):
            raise _unreadable("uint", value, "'42'")
        return _uint(int(value))
    raise _mismatch("uint", value)


_DOUBLE: Final = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(?i:inf(inity)?)|(?i:nan)"


def _to_double(_: _Frame, value: object) -> object:
    if isinstance(value, int | float) and type(value) in _NUMBERS:
        return float(value)
    if type(value) is str:
        if len(value) > 400 or not re.fullmatch(_DOUBLE, value):
            raise _unreadable("double", value, "'4.2'")
        return float(value)
    raise _mismatch("double", value)


def _double_text(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value).removesuffix(".0")


def _seconds_text(nanos: int) -> str:
    """Whole seconds and the fraction that is not zero, of a number that is not negative."""
    whole, rest = divmod(nanos, _NANOS)
    return f"{whole}.{rest:09d}".rstrip("0") if rest else str(whole)


def _to_string(_: _Frame, value: object) -> object:
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float:
        return _double_text(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise _Fault("string() cannot read these bytes as UTF-8; compare them as bytes") from None
    if isinstance(value, _Duration):
        return f"{'-' if value < 0 else ''}{_seconds_text(abs(value))}s"
    if isinstance(value, _Timestamp):
        seconds, nanos = divmod(int(value), _NANOS)
        moment = (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()
        return f"{moment}{_seconds_text(nanos).removeprefix('0')}Z"
    if isinstance(value, int) and type(value) in (int, _Uint):
        return str(int(value))
    raise _mismatch("string", value)


_TRUE_TEXTS: Final = ("1", "t", "true", "TRUE", "True")
_FALSE_TEXTS: Final = ("0", "f", "false", "FALSE", "False")


def _to_bool(_: _Frame, value: object) -> object:
    if type(value) is bool:
        return value
    if type(value) is not str:
        raise _mismatch("bool", value)
    if value not in _TRUE_TEXTS + _FALSE_TEXTS:
        raise _unreadable("bool", value, "'true'")
    return value in _TRUE_TEXTS


def _to_bytes(frame: _Frame, value: object) -> object:
    if type(value) is bytes:
        return value
    if type(value) is not str:
        raise _mismatch("bytes", value)
    frame.charge_text(value)
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise _Fault("bytes() cannot encode a text with lone surrogates; mend it where it is sent") from None


_RFC3339: Final = (
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)


def _to_timestamp(_: _Frame, value: object) -> object:
    if isinstance(value, _Timestamp):
        return value
    if type(value) is int:
        return _timestamp(value * _NANOS)
    if type(value) is not str:
        raise _mismatch("timestamp", value)
    match = re.fullmatch(_RFC3339, value)
    if match is None:
        raise _unreadable("timestamp", value, "'2026-01-31T12:00:00Z'")
    *fields, fraction, sign, hours, minutes = match.groups()
    try:
        year, month, day, hour, minute, second = map(int, fields)
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise _Fault(f"timestamp() got a date out of range ({error}); correct it") from None
    since = moment - _EPOCH
    offset = (int(hours) * 60 + int(minutes)) * (-60 if sign == "-" else 60) if sign else 0
    seconds = since.days * 86_400 + since.seconds - offset
    return _timestamp(seconds * _NANOS + int((fraction or "").ljust(9, "0")))


_UNITS: Final = {"h": 3600 * _NANOS, "m": 60 * _NANOS, "s": _NANOS, "ms": 1_000_000, "us": 1000, "µs": 1000, "μs": 1000, "ns": 1}
_DURATION_PART: Final = r"([0-9]{0,20})(?:\.([0-9]{0,20}))?(h|ms|us|µs|μs|ns|m|s)"


def _to_duration(frame: _Frame, value: object) -> object:
    if isinstance(value, _Duration):
        return value
    if type(value) is not str:
        raise _mismatch("duration", value)
    frame.charge(len(value) // 4)
    body = value.removeprefix("-") if value.startswith("-") else value.removeprefix("+")
    part = re.compile(_DURATION_PART)
    nanos, position = 0, 0
    while position < len(body) <= 200:
        match = part.match(body, position)
        if match is None or not (match[1] or match[2]):
            break
        unit, fraction = _UNITS[match[3]], match[2] or ""
        nanos += int(match[1] or "0") * unit + int(fraction or "0") * unit // 10 ** len(fraction)
        position = match.end()
    if body != "0" and (not body or position < len(body)):
        raise _unreadable("duration", value, "'1h30m' or '1.5s'")
    return _duration(-nanos if value.startswith("-") else nanos)


@lru_cache(maxsize=1024)
def _zone(name: str) -> tzinfo | None:
    """The time zone of that name, or None. It may read a file, hence the cache, also of what is not there."""
    fixed = re.fullmatch(r"([+-]?)([0-9]{2}):([0-9]{2})", name)
    if fixed and int(fixed[2]) < 24 and int(fixed[3]) < 60:
        minutes = int(fixed[2]) * 60 + int(fixed[3])
        return timezone(timedelta(minutes=-minutes if fixed[1] == "-" else minutes))
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return None


def _part_of_time(name: str, of_timestamp: Callable[[datetime], int], of_duration: Callable[[int], int] | None) -> _Overload:
    def call(frame: _Frame, value: object, zone: object = "UTC") -> object:
        if isinstance(value, _Timestamp) and type(zone) is str:
            moment = _EPOCH + timedelta(microseconds=int(value) // 1000)
            if zone == "UTC":
                return of_timestamp(moment)
            frame.charge(_ZONE_STEPS)
            there = _zone(zone[:100])
            if there is None:
                raise _unreadable(name, zone, "'Europe/Paris' or '+02:00'")
            try:
                return of_timestamp(moment.astimezone(there))
            except OverflowError:
                raise _Fault("the timestamp is out of range in that time zone; read it in UTC") from None
        if isinstance(value, _Duration) and of_duration is not None and zone == "UTC":
            return of_duration(int(value))
        raise _mismatch(name, value, zone)

    return call


class _Function(NamedTuple):
    """How a function may be called: `method` and `plain` are the numbers of arguments, the receiver counted."""

    call: _Overload
    method: tuple[int, ...] = ()
    plain: tuple[int, ...] = ()


_TIME_PARTS: Final[dict[str, tuple[Callable[[datetime], int], Callable[[int], int] | None]]] = {
    "getFullYear": (lambda t: t.year, None),
    "getMonth": (lambda t: t.month - 1, None),
    "getDate": (lambda t: t.day, None),
    "getDayOfMonth": (lambda t: t.day - 1, None),
    "getDayOfWeek": (lambda t: t.isoweekday() % 7, None),
    "getDayOfYear": (lambda t: t.timetuple().tm_yday - 1, None),
    "getHours": (lambda t: t.hour, lambda d: _quotient(d, 3600 * _NANOS)),
    "getMinutes": (lambda t: t.minute, lambda d: _quotient(d, 60 * _NANOS)),
    "getSeconds": (lambda t: t.second, lambda d: _quotient(d, _NANOS)),
    "getMilliseconds": (lambda t: t.microsecond // 1000, lambda d: _quotient(_remainder(d, _NANOS), 1_000_000)),
}
_FUNCTIONS: Final[dict[str, _Function]] = {
    "size": _Function(_size, method=(1,), plain=(1,)),
    "contains": _Function(_on_strings("contains", lambda text, part: part in text), method=(2,)),
    "startsWith": _Function(_on_strings("startsWith", str.startswith), method=(2,)),
    "endsWith": _Function(_on_strings("endsWith", str.endswith), method=(2,)),
    "matches": _Function(_matches_dynamic, method=(2,), plain=(2,)),
    "int": _Function(_to_int, plain=(1,)),
    "uint": _Function(_to_uint, plain=(1,)),
    "double": _Function(_to_double, plain=(1,)),
    "string": _Function(_to_string, plain=(1,)),
    "bool": _Function(_to_bool, plain=(1,)),
    "bytes": _Function(_to_bytes, plain=(1,)),
    "timestamp": _Function(_to_timestamp, plain=(1,)),
    "duration": _Function(_to_duration, plain=(1,)),
    "type": _Function(lambda _, value: _TYPES[_TYPE_NAMES[type(value)]], plain=(1,)),
    "dyn": _Function(lambda _, value: value, plain=(1,)),
} | {name: _Function(_part_of_time(name, *parts), method=(1, 2)) for name, parts in _TIME_PARTS.items()}


# ---------------------------------------------------------------- closures

# Each takes the closures of its operands and gives one of its own. An operand's fault knows its place already; a fault of the
# operation itself is given the place here.


def _apply(call: _Overload, operands: list[_Eval], place: _Place) -> _Eval:
    def node(frame: _Frame) -> object:
        try:
            return call(frame, *[operand(frame) for operand in operands])
        except _Fault as fault:
            raise fault.at(place) from None

    return node


def _apply_two(call: _Overload, left: _Eval, right: _Eval, place: _Place) -> _Eval:
    """`_apply` for the commonest case, a comparison: a list the fewer."""

    def node(frame: _Frame) -> object:
        try:
            return call(frame, left(frame), right(frame))
        except _Fault as fault:
            raise fault.at(place) from None

    return node


def _calculate(first: _Eval, rest: list[tuple[str, _Eval, _Place]]) -> _Eval:
    """A chain of + - or of * / %, from left to right. A loop, so that long chains do not nest."""

    def node(frame: _Frame) -> object:
        result = first(frame)
        for sign, operand, place in rest:
            value = operand(frame)
            overload = _ARITHMETIC[sign].get((type(result), type(value)))
            if overload is None:
                raise _no_overload(sign, result, value).at(place)
            try:
                result = overload(frame, result, value)
            except _Fault as fault:
                raise fault.at(place) from None
        return result

    return node


def _not_bool(what: str, value: object, place: _Place) -> _Fault:
    return _Fault(f"{what} needs a bool, not {_type_name(value)}; compare it to get one", place)


def _logic(operands: list[tuple[_Eval, _Place]], deciding: bool) -> _Eval:
    """`||` (deciding: true) or `&&` (deciding: false): one deciding operand is enough, whatever errors the others give."""
    sign = "||" if deciding else "&&"

    def node(frame: _Frame) -> object:
        first_fault: _Fault | None = None
        for operand, place in operands:
            try:
                value = operand(frame)
            except _Fault as fault:
                first_fault = first_fault or fault.with_traceback(None)
                continue
            if value is deciding:
                return deciding
            if type(value) is not bool:
                first_fault = first_fault or _not_bool(sign, value, place)
        if first_fault is not None:
            raise first_fault
        return not deciding

    return node


def _choose(condition: _Eval, then: _Eval, otherwise: _Eval, place: _Place) -> _Eval:
    def node(frame: _Frame) -> object:
        value = condition(frame)
        if type(value) is not bool:
            raise _not_bool("?:", value, place)
        return then(frame) if value else otherwise(frame)

    return node


def _select(operand: _Eval, name: str, place: _Place) -> _Eval:
    shown = _shown(name)

    def node(frame: _Frame) -> object:
        value = operand(frame)
        if type(value) is dict:
            try:
                return value[name]
            except KeyError:
                raise _Fault(f"there is no field {shown}; guard it with has(...)", place) from None
        raise _Fault(f"{_type_name(value)} has no fields, so no {shown}; test its type() first", place)

    return node


def _has(operand: _Eval, name: str, place: _Place) -> _Eval:
    shown = _shown(name)

    def node(frame: _Frame) -> object:
        value = operand(frame)
        if type(value) is dict:
            return name in value
        raise _Fault(f"{_type_name(value)} has no fields, so has() cannot tell of {shown}; test its type() first", place)

    return node


def _list(items: list[_Eval]) -> _Eval:
    return lambda frame: [item(frame) for item in items]


def _map(entries: list[tuple[_Eval, _Eval]], place: _Place) -> _Eval:
    def node(frame: _Frame) -> object:
        result: dict[object, object] = {}
        for key_of, value_of in entries:
            value = key_of(frame)
            key = _lookup_key(frame, value)
            if key is None or type(key) is float:
                raise _Fault(f"a map's key cannot be {_type_name(value)}; use a string, an int or a bool", place)
            if key in result:
                raise _Fault(f"the map has the key {_shown(key)} twice; remove one", place)
            result[key] = value_of(frame)
        return result

    return node


# ---------------------------------------------------------------- macros


class _Loop(NamedTuple):
    """What a macro goes over. `cost` is the number of nodes in its body: the steps that each item takes."""

    target: _Eval
    slot: int
    cost: int
    name: str
    place: _Place

    def items(self, frame: _Frame) -> list[object]:
        """A list's items or a map's keys."""
        value = self.target(frame)
        if isinstance(value, list):
            return value
        if isinstance(value, dict):
            frame.charge(len(value) // 8)
            return [key.value if type(key) is _BoolKey else key for key in value]
        raise _Fault(f"{self.name}() goes over a list or a map, not {_type_name(value)}", self.place)


def _quantifier(loop: _Loop, body: _Eval, deciding: bool) -> _Eval:
    """`exists` (deciding: true) and `all` (deciding: false), with `||`'s and `&&`'s way of absorbing errors."""

    def node(frame: _Frame) -> object:
        first_fault: _Fault | None = None
        slots = frame.slots
        for item in loop.items(frame):
            frame.charge(loop.cost)
            slots[loop.slot] = item
            try:
                value = body(frame)
            except _Fault as fault:
                first_fault = first_fault or fault.with_traceback(None)
                continue
            if value is deciding:
                return deciding
            if type(value) is not bool:
                first_fault = first_fault or _not_bool(f"{loop.name}()", value, loop.place)
        if first_fault is not None:
            raise first_fault
        return not deciding

    return node


def _selected(loop: _Loop, condition: _Eval | None, result: _Eval | None) -> Callable[[_Frame], list[object]]:
    """What `filter`, `map` and `exists_one` share: the items for which the condition holds, or what is made of them."""

    def node(frame: _Frame) -> list[object]:
        slots = frame.slots
        results: list[object] = []
        for item in loop.items(frame):
            frame.charge(loop.cost)
            slots[loop.slot] = item
            if condition is not None:
                value = condition(frame)
                if type(value) is not bool:
                    raise _not_bool(f"{loop.name}()", value, loop.place)
                if not value:
                    continue
            results.append(item if result is None else result(frame))
        return results

    return node


def _exactly_one(selected: Callable[[_Frame], list[object]]) -> _Eval:
    return lambda frame: len(selected(frame)) == 1


_MACROS: Final = {"all": (2,), "exists": (2,), "exists_one": (2,), "map": (2, 3), "filter": (2,)}


# ---------------------------------------------------------------- from tree to closures

_WRAPPERS: Final = frozenset(
    ("expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication", "unary", "member", "primary")
) | {"paren_expr"}
_SIGNS: Final = {
    "addition_add": "+",
    "addition_sub": "-",
    "multiplication_mul": "*",
    "multiplication_div": "/",
    "multiplication_mod": "%",
}


class _Compiler:
    """Turns one tree into closures, and refuses what can be known to be wrong before any value is seen.

    `scope` maps a macro's variables to their slots; a slot is the macro's level, so that macros side by side share one.
    """

    def __init__(self, source: _Source) -> None:
        self.source = source
        self.max_locals = 0
        self._depth = 0
        self._nodes = 0

    def build(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        tree = _unwrap(tree)
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH:
            raise self._error(f"it nests deeper than {MAX_DEPTH} levels; split it, or flatten it", tree)
        builder = cast("Callable[[_Tree, dict[str, int]], _Eval]", getattr(self, f"_{tree.data}"))
        node = builder(tree, scope)
        self._depth -= 1
        return node

    def _error(self, message: str, tree: _Tree) -> ExpressionError:
        return self.source.error(message, *_place(tree))

    # operators

    def _expr(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        condition, then, otherwise = _trees(tree)
        return _choose(self.build(condition, scope), self.build(then, scope), self.build(otherwise, scope), _place(condition))

    def _conditionalor(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        return self._logic(tree, scope, deciding=True)

    def _conditionaland(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        return self._logic(tree, scope, deciding=False)

    def _logic(self, tree: _Tree, scope: dict[str, int], *, deciding: bool) -> _Eval:
        operands = []
        rest = tree
        while rest.data == tree.data:
            rest, operand = _trees(rest)
            operands.append(operand)
            rest = _unwrap(rest)
        operands.append(rest)
        return _logic([(self.build(operand, scope), _place(operand)) for operand in reversed(operands)], deciding)

    def _relation(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        operation, right = _trees(tree)
        (left,) = _trees(operation)
        return _apply_two(_RELATIONS[operation.data], self.build(left, scope), self.build(right, scope), _place(tree))

    def _addition(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        rest, chain = tree, []
        while rest.data == tree.data:
            operation, operand = _trees(rest)
            chain.append((_SIGNS[operation.data], operand, _place(rest)))
            rest = _unwrap(_trees(operation)[0])
        first = self.build(rest, scope)
        return _calculate(first, [(sign, self.build(operand, scope), place) for sign, operand, place in reversed(chain)])

    _multiplication = _addition

    def _unary(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        operation, operand = _trees(tree)
        call = _not if operation.data == "unary_not" else _negate
        return _apply(call, [self.build(operand, scope)], _place(tree))

    # members

    def _member_dot(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        dotted = self.source.masked[slice(*_place(tree))]
        if dotted in _TYPES and "google" not in scope:
            return _constant(_TYPES[dotted])
        operand, name = cast("tuple[_Tree, Token]", tree.children)
        return _select(self.build(operand, scope), str(name), _place(tree))

    def _member_index(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        operand, key = _trees(tree)
        return _apply_two(_index, self.build(operand, scope), self.build(key, scope), _place(tree))

    def _member_object(self, tree: _Tree, _: dict[str, int]) -> _Eval:
        raise self._error("there are no protobuf messages here; write a map, {'name': value}", tree)

    def _member_dot_arg(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        operand, name, *exprlist = cast("tuple[_Tree, Token, _Tree]", tree.children)
        arguments = _trees(exprlist[0]) if exprlist else []
        if len(arguments) in _MACROS.get(name, ()):
            return self._macro(tree, str(name), operand, arguments, scope)
        return self._call(tree, str(name), [operand, *arguments], scope, method=True)

    # calls

    def _ident_arg(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        name, *exprlist = cast("tuple[Token, _Tree]", tree.children)
        arguments = _trees(exprlist[0]) if exprlist else []
        if name == "has":
            return self._has(tree, arguments, scope)
        return self._call(tree, str(name), arguments, scope, method=False)

    _dot_ident_arg = _ident_arg

    def _has(self, tree: _Tree, arguments: list[_Tree], scope: dict[str, int]) -> _Eval:
        selection = _unwrap(arguments[0]) if len(arguments) == 1 else tree
        if selection.data != "member_dot":
            raise self._error("has() takes one field, like has(input.name)", tree)
        operand, name = cast("tuple[_Tree, Token]", selection.children)
        return _has(self.build(operand, scope), str(name), _place(tree))

    def _call(self, tree: _Tree, name: str, arguments: list[_Tree], scope: dict[str, int], *, method: bool) -> _Eval:
        function = _FUNCTIONS.get(name)
        if function is None:
            known = sorted({*_FUNCTIONS, *_MACROS, "has"})
            raise self._error(f"there is no function {name}(); use one of {_listed(known)}", tree)
        if len(arguments) not in (function.method if method else function.plain):
            form = " or ".join(
                [f"value.{name}({'…' if n > 1 else ''})" for n in function.method]
                + [f"{name}({', '.join(['value', '…'][:n])})" for n in function.plain]
            )
            raise self._error(f"{name}() is not called like this; write {form}", tree)
        call = function.call
        if name == "matches" and (pattern := self._text(arguments[1])) is not None:
            call = _matches
            try:
                _pattern(pattern)
            except _Fault as fault:
                raise self._error(fault.message, arguments[1]) from None
        return _apply(call, [self.build(argument, scope) for argument in arguments], _place(tree))

    def _text(self, tree: _Tree) -> str | None:
        """The text of a string literal, or None for anything else."""
        tree = _unwrap(tree)
        (leaf, *_) = cast("list[Token]", tree.children or [None])
        is_text = tree.data == "literal" and leaf.type == "STRING_LIT"
        value = self.source.literals[leaf.start_pos or 0] if is_text else None
        return value if isinstance(value, str) else None

    def _macro(self, tree: _Tree, name: str, operand: _Tree, arguments: list[_Tree], scope: dict[str, int]) -> _Eval:
        variable = _unwrap(arguments[0])
        if variable.data != "ident" or str(variable.children[0]) in _RESERVED:
            raise self._error(f"{name}() takes the name of its variable first, like {name}(x, ...)", arguments[0])
        target = self.build(operand, scope)
        level = max(scope.values(), default=len(VARIABLES) - 1) + 1
        inner = {**scope, str(variable.children[0]): level}
        self.max_locals = max(self.max_locals, level - len(VARIABLES) + 1)
        before = self._nodes
        bodies = [self.build(argument, inner) for argument in arguments[1:]]
        loop = _Loop(target, level, self._nodes - before + 1, name, _place(tree))
        if name in ("all", "exists"):
            return _quantifier(loop, bodies[0], name == "exists")
        if name == "map":
            return _selected(loop, bodies[0] if len(bodies) == 2 else None, bodies[-1])
        selected = _selected(loop, bodies[0], None)
        return _exactly_one(selected) if name == "exists_one" else selected

    # primaries

    def _ident(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        name = str(tree.children[0])
        slot = scope.get(name) if tree.data == "ident" else None
        if slot is None and name in VARIABLES:
            slot = VARIABLES.index(name)
        if slot is not None:
            index = slot
            return lambda frame: frame.slots[index]
        if name in _TYPES:
            return _constant(_TYPES[name])
        raise self._error(f"`{name}` is not known; write input.{name} for a field of the payload, or {_listed(VARIABLES)}", tree)

    _dot_ident = _ident

    def _list_lit(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        return _list([self.build(item, scope) for exprlist in _trees(tree) for item in _trees(exprlist)])

    def _map_lit(self, tree: _Tree, scope: dict[str, int]) -> _Eval:
        parts = [self.build(part, scope) for mapinits in _trees(tree) for part in _trees(mapinits)]
        return _map(list(zip(parts[::2], parts[1::2], strict=True)), _place(tree))

    def _literal(self, tree: _Tree, _: dict[str, int]) -> _Eval:
        (leaf,) = cast("list[Token]", tree.children)
        return _constant(self._value(leaf, tree))

    def _value(self, leaf: Token, tree: _Tree) -> object:
        if leaf.type == "NULL_LIT":
            return None
        if leaf.type == "BOOL_LIT":
            return leaf == "true"
        if leaf.type == "FLOAT_LIT":
            if math.isinf(float(leaf)):
                raise self._error("this number is out of the range of double; write a smaller one", tree)
            return float(leaf)
        if leaf.type in ("INT_LIT", "UINT_LIT"):
            digits = leaf.rstrip("uU")
            low, high = (_INT_MIN, _INT_MAX) if leaf.type == "INT_LIT" else (0, _UINT_MAX)
            value = int(digits, 16 if "x" in digits else 10) if len(digits) <= 40 else high + 1
            if not low <= value <= high:
                raise self._error("this number is out of the range of 64 bits; write it as a double, like 1e20", tree)
            return value if leaf.type == "INT_LIT" else _Uint(value)
        return self.source.literals[leaf.start_pos or 0]


def _constant(value: object) -> _Eval:
    return lambda _: value


def _place(tree: _Tree) -> _Place:
    return _Place(getattr(tree.meta, "start_pos", None), getattr(tree.meta, "end_pos", None))


def _trees(tree: _Tree) -> list[_Tree]:
    return cast("list[_Tree]", tree.children)


def _unwrap(tree: _Tree) -> _Tree:
    """Skip the levels of the grammar that hold one thing only. A loop: parentheses may be many."""
    while tree.data in _WRAPPERS and len(tree.children) == 1:
        (tree,) = _trees(tree)
    return tree
