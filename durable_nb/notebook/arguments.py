"""Arguments of magics: a line becomes words, words become values; every slip becomes one sentence that names the fix.

JSON may stand in a line as it is, spaces and braces included: a word that begins with ``{``, ``[`` or ``"`` ends where its
JSON ends. IPython's own expansion of ``$name`` and ``{name}`` is switched off for these magics, since it would tear JSON apart.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from IPython.core.error import UsageError

from durable_nb.views.words import brief

INPUT = "JSON|@file|$variable"  # how the help calls a value, by which Tab knows it
JSON_OPENERS = '{["'
NEGATIVE = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$|^-Infinity$")
MAX_PLACE_DIGITS = 15
DECODER = json.JSONDecoder()


class HelpAsked(Exception):  # noqa: N818  a signal to whoever parses, not an error
    """`--help` stood in the line."""


class Arguments(argparse.ArgumentParser):
    """An argument parser that never ends the process: errors are UsageErrors, and help is raised as `HelpAsked`."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            add_help=False,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self._form = ""
        self._negative_number_matcher = NEGATIVE  # argparse knows no exponents, and would take -1e3 for options
        self.add_argument("-h", "--help", action=_Help, nargs=0, default=argparse.SUPPRESS, help="show this")

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and what the line should look like."""
        raise UsageError(
            f"{message[:1].upper()}{message[1:]}: write `{self._form or self.form}` (`{self.prog} --help` explains it)."
        )

    @property
    def form(self) -> str:
        """How the line is written: what it must have first, then the options."""
        places, options = [], []
        for action in self._actions:
            name, takes = action.option_strings[-1:], "" if action.nargs == 0 else str(action.metavar)
            if not name:
                places.append({"?": f"[{takes}]", "+": f"{takes} …"}.get(str(action.nargs), takes))
            elif action.dest != "help":
                option = " ".join([*name, takes]).strip()
                options.append(option if action.required else f"[{option}]")
        return " ".join([self.prog, *places, *options])

    def parse(self, line: str) -> argparse.Namespace:
        """Parse the rest of a magic's line; options may stand anywhere in it."""
        self._form = self.form  # kept, since what follows takes the places away for a while
        self.usage = self._form.replace("%", "%%")  # argparse formats it with %
        return self.parse_intermixed_args(words_of(line))


class _Help(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        raise HelpAsked(parser.format_help())


def words_of(line: str) -> list[str]:
    r"""Split a line into words: bare ones, 'quoted' ones, and JSON values as they stand.

    Raises:
        UsageError: a quote or JSON value does not end, or is broken.

    >>> words_of('clean {"path": "a b.csv"} --key \'my key\'')
    ['clean', '{"path": "a b.csv"}', '--key', 'my key']
    """
    words, at = list[str](), 0
    while True:
        at += len(line[at:]) - len(line[at:].lstrip())
        if at == len(line):
            return words
        word, at = _next_word(line, at)
        words.append(word)


def _next_word(line: str, at: int) -> tuple[str, int]:
    if line[at] in JSON_OPENERS:
        try:
            _, end = DECODER.raw_decode(line, at)
        except json.JSONDecodeError as error:
            raise UsageError(_not_json(line[at:].strip(), error.msg, error.pos - at)) from None
        except (ValueError, RecursionError) as error:
            raise UsageError(_too_much(line[at:], error)) from None
        if end < len(line) and not line[end].isspace():
            raise UsageError(_not_json(line[at:].strip(), "it goes on after its end", end - at))
        return line[at:end], end
    if line[at] == "'":
        end = line.find("'", at + 1)
        if end < 0:
            raise UsageError(f"The quote in {brief(line[at:])} does not end: write a second ' after it.")
        return line[at + 1 : end], end + 1
    end = next((place for place in range(at, len(line)) if line[place].isspace()), len(line))
    equals = line.find("=", at, end)
    if line.startswith("--", at) and 0 < equals + 1 < len(line) and line[equals + 1] in (*JSON_OPENERS, "'"):
        value, end = _next_word(line, equals + 1)
        return line[at : equals + 1] + value, end
    if line[at] == "@" and line[at + 1 : at + 2] in ("'", '"'):
        closing = line.find(line[at + 1], at + 2)
        if closing > 0:
            return "@" + line[at + 2 : closing], closing + 1
    return line[at:end], end


def _not_json(text: str, problem: str, position: int) -> str:
    hint = "JSON takes double quotes" if "'" in text else 'write it as {"name": "value"}'
    return (
        f"{brief(text, 80)} is not JSON ({problem[:1].lower()}{problem[1:]}, character {position + 1}): {hint}, "
        "or give $variable or @file.json."
    )


def _too_much(text: str, error: ValueError | RecursionError) -> str:
    """Say what Python's JSON reader does not take: a number of thousands of digits, or thousands of levels."""
    what = "is nested too deeply" if isinstance(error, RecursionError) else "has a number of too many digits"
    return f"{brief(text, 80)} {what} to be read as JSON: make it flatter, or give the number as a string."


def value_of(word: str, namespace: Mapping[str, Any]) -> Any:
    """Give the value that a word stands for: JSON, ``$variable`` or ``@file.json``.

    Raises:
        UsageError: it is none of them; a bare word is not taken for a string, since a misspelt name would pass as one.
    """
    if word.startswith("$"):
        return _variable(word[1:], namespace)
    if word.startswith("@"):
        return _file(word[1:])
    try:
        return json.loads(word)
    except json.JSONDecodeError as error:
        if word.isidentifier():
            known = f"${word} for the variable" if word in namespace else f'"{word}" for a string'
            raise UsageError(f"{word} is not JSON: write {known}, or give @file.json.") from None
        raise UsageError(_not_json(word, error.msg, error.pos)) from None
    except (ValueError, RecursionError) as error:
        raise UsageError(_too_much(word, error)) from None


def _variable(name: str, namespace: Mapping[str, Any]) -> Any:
    if name not in namespace:
        raise UsageError(f"${brief(name, 80)} is not defined: assign {brief(name, 80)} in a cell first, or give JSON.")
    return namespace[name]


def _file(name: str) -> Any:
    path = Path(name).expanduser()
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"@{brief(name)} cannot be read ({error.strerror}): give the path of a JSON file.") from None
    except RecursionError as error:
        raise UsageError(_too_much(f"@{name}", error)) from None
    except ValueError as error:
        raise UsageError(f"@{brief(name)} holds no JSON ({error}): give the path of a JSON file.") from None


def metadata_of(word: str | None, namespace: Mapping[str, Any]) -> dict[str, object] | None:
    """Give the value of ``--metadata``, which must be an object."""
    if word is None:
        return None
    value = value_of(word, namespace)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UsageError(f'--metadata {brief(word, 80)} is no JSON object: write it as {{"name": "value"}}.')
    return value


def plain(word: str) -> str:
    """Give a word that names something; it may stand in double quotes.

    Raises:
        argparse.ArgumentTypeError: it is empty, or its quotes do not end.
    """
    try:
        name = str(json.loads(word)) if word.startswith('"') else word
    except ValueError:
        raise argparse.ArgumentTypeError(f"{brief(word, 80)} does not end in a quote") from None
    if not name:
        raise argparse.ArgumentTypeError("it is empty")
    return name


def place(word: str) -> int:
    """Give the number of a checkpoint or branch.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not (word.isascii() and word.isdecimal() and 1 <= len(word) <= MAX_PLACE_DIGITS):
        raise argparse.ArgumentTypeError(f"{brief(word, 40)} is no number of a checkpoint or branch: they begin at 1")
    return int(word)


def seconds_or_text(word: str) -> float | str:
    """Give a duration as `parse_duration` takes it: a bare number means seconds."""
    try:
        return float(word)
    except ValueError:
        return word


def within(limit: int, most: int) -> int:
    """Check a limit.

    Raises:
        UsageError: it is too small or too large.
    """
    if not 1 <= limit <= most:
        raise UsageError(f"--limit must be 1 or more, and at most {most}.")
    return limit


def choices(words: Sequence[str]) -> str:
    """Give a list of words for a sentence.

    >>> choices(["a", "b", "c"])
    'a, b or c'
    """
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else "".join(words)
