"""An expression's text, with its literals read.

Invariant: `masked` has the length of `text`, so a position in one is a position in the other, and what is inside a string,
a bytes literal or a comment never reaches the parser: cel-python's lexer backtracks exponentially on some strings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, cast

from durable_nb.engine.cel.faults import where
from durable_nb.engine.cel.limits import MAX_DEPTH
from durable_nb.errors import ExpressionError

TOO_DEEP: Final = f"it nests deeper than {MAX_DEPTH} levels; split it, or flatten it"

# Texts, which `re` compiles when they are first used: importing this package compiles no pattern.
_PIECE: Final = r"(?s)//[^\n]*|(?P<prefix>[rR][bB]?|[bB][rR]?)?(?P<quote>\"\"\"|'''|\"|')|\w+|\s+|."
_ESCAPE: Final = r"(?s)\\(?:[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.)|$)"
_SIMPLE_ESCAPES: Final = dict(zip("abfnrtv\\?\"'`", "\a\b\f\n\r\t\v\\?\"'`", strict=True))


class Source:
    """An expression's text with every string, bytes literal and comment blanked out in place.

    `literals` holds the blanked literals by position. Brackets are counted here, because this is the one linear pass that
    comes before the parser. A comma before a closing `]` or `}`, which CEL allows and cel-python's grammar does not, is
    blanked too.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.literals: dict[int, str | bytes] = {}
        self.masked = self._mask()

    def error(self, message: str, start: int | None, end: int | None = None) -> ExpressionError:
        """Make the one sentence that names the place."""
        return ExpressionError(f"The CEL expression does not compile at {where(self.text, start, end)}: {message}.")

    def _mask(self) -> str:
        masked = list(self.text)
        depth = 0
        before, last, last_at = "", "", 0
        for start, piece in self._pieces(masked):
            if piece in ("(", "[", "{"):
                depth += 1
                if depth > MAX_DEPTH:
                    raise self.error(TOO_DEEP, start, start + 1)
            elif piece in (")", "]", "}"):
                depth -= 1
                if last == "," and piece != ")" and before not in ("", ",", "(", "[", "{", ":"):
                    masked[last_at] = " "
            elif piece in ("true", "false") and last == ".":
                raise self.error(f'a field of that name is written ["{piece}"], without the dot', start, start + len(piece))
            before, last, last_at = last, piece, start
        return "".join(masked)

    def _pieces(self, masked: list[str]) -> Iterator[tuple[int, str]]:
        """Give each piece that counts with its position, of a literal its opening; blank literals and comments in `masked`."""
        pieces = re.compile(_PIECE)
        position = 0
        while position < len(self.text):
            match = cast("re.Match[str]", pieces.match(self.text, position))
            start, position, piece = position, match.end(), match.group()
            if match["quote"]:
                position = self._literal(start, match["prefix"] or "", match["quote"], position)
                masked[start:position] = f"'{'_' * (position - start - 2)}'"
            elif piece.startswith("//"):
                masked[start:position] = " " * len(piece)
                continue
            elif piece.isspace():
                continue
            yield start, piece

    def _literal(self, start: int, prefix: str, quote: str, position: int) -> int:
        """Read the literal whose opening quote ends at `position`; give the position behind it."""
        raw, is_bytes = "r" in prefix.lower(), "b" in prefix.lower()
        newline = "" if len(quote) == 3 else "|[\r\n]"
        stop = f"(?s){quote}{newline}" if raw else rf"(?s)\\.|{quote}{newline}"
        for match in re.compile(stop).finditer(self.text, position):
            found = match.group()
            if found == quote:
                body = self.text[position : match.start()]
                read = self._bytes if is_bytes else self._string
                self.literals[start] = read(body, position, raw)
                return match.end()
            if found in "\r\n":
                break
        raise self.error(f"this string is not closed; end it with {quote}", start, start + 12)

    def _string(self, body: str, offset: int, raw: bool) -> str:
        return body if raw else re.sub(_ESCAPE, lambda match: chr(self._escaped(match, offset)[0]), body)

    def _bytes(self, body: str, offset: int, raw: bool) -> bytes:
        if raw:
            return body.encode("utf-8", "surrogatepass")
        parts, position = bytearray(), 0
        for match in re.finditer(_ESCAPE, body):
            parts += body[position : match.start()].encode("utf-8", "surrogatepass")
            code, is_byte = self._escaped(match, offset)
            parts += bytes([code]) if is_byte else chr(code).encode()
            position = match.end()
        return bytes(parts + body[position:].encode("utf-8", "surrogatepass"))

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
        if simple not in _SIMPLE_ESCAPES:
            raise self.error(r"CEL has no such escape; write \\ for a backslash, or a raw string r'...'", *place)
        return ord(_SIMPLE_ESCAPES[simple]), False
