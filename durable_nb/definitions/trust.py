"""Whose code is this? The user's own key, signatures made with it, and the list of logs the user has opened.

As with Jupyter's notebook trust, what this user wrote is known by a signature made with a key that never leaves the user's data
folder. What is not signed so is never executed; that is the caller's duty, and `Keyring.verify` is how it is done.

Invariant: a signature is over the list of its parts, not their concatenation, so that nothing can move from one part to another;
and a key that somebody else can read, or could have made, is refused rather than repaired, since it may be known already.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import platform
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from durable_nb.definitions.records import Definition
from durable_nb.errors import UntrustedError

if TYPE_CHECKING:
    from durable_nb.log.definitions import StoredDefinition

_DOMAIN = b"durable_nb signature 1"
_KEY_BYTES = 32


class Keyring:
    """A user's key and list of known logs, in one private folder.

    On Windows the folder's privacy is that of the user's profile; modes and owners are checked on POSIX only. Any thread may use
    a keyring, and any number of processes the same folder.

    Args:
        folder: where key and list are kept; made with mode 0700 when first needed.

    Example:
        >>> keyring = Keyring.default()
        >>> signature = keyring.sign("definition", "…")  # doctest: +SKIP
        >>> keyring.verify(signature, "definition", "…")  # doctest: +SKIP
        True
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key: bytes | None = None

    @classmethod
    def default(cls) -> Keyring:
        """The keyring in Jupyter's data folder, as `jupyter --data-dir` and JUPYTER_DATA_DIR name it."""
        return cls(_jupyter_data_folder() / "durable_nb")

    # ------------------------------------------------------------ signatures

    def sign(self, *parts: bytes | str) -> bytes:
        """Sign a list of parts: 32 bytes of HMAC-SHA256. The first part should say what kind of thing is signed.

        Raises:
            UntrustedError: the key, or its folder, is open to other users, or cannot be read or made.
        """
        return hmac.digest(self._secret(), _message(parts), "sha256")

    def verify(self, signature: bytes, *parts: bytes | str) -> bool:
        """Whether `signature` was made by this key over exactly these parts; takes the same time whatever differs.

        Raises:
            UntrustedError: as for `sign`.
        """
        return hmac.compare_digest(self.sign(*parts), signature)

    def _secret(self) -> bytes:
        if self._key is None:
            with _said(self.folder):
                _make_private_folder(self.folder)
                path = self.folder / "key"
                if not path.exists():
                    _create_key(path)
                self._key = _read_key(path)
        return self._key

    # ------------------------------------------------------------ known logs

    def knows(self, log_id: str) -> bool:
        """Whether the user has opened or trusted the log with this id before.

        An id can be copied, so this alone executes nothing: every definition and run needs its signature besides.
        """
        return self._entry(log_id) is not None

    def path_of(self, log_id: str) -> str | None:
        """The path under which a known log was opened last; None for an unknown one."""
        entry = self._entry(log_id)
        return entry["path"] if entry else None

    def remember(self, log_id: str, path: str | os.PathLike[str]) -> None:
        """Put a log on the list, or note its new path. One small file per log, so that processes never rewrite one another's.

        Raises:
            UntrustedError: the list is open to other users, or cannot be written.
        """
        with _said(self.folder):
            self._logs()
            target = self._log_file(log_id)
            temporary = target.with_name(f"{target.name}.{secrets.token_hex(8)}")
            try:
                _write_new(temporary, json.dumps({"log_id": log_id, "path": os.fspath(path)}).encode())
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)

    def forget(self, log_id: str) -> None:
        """Take a log off the list; one that is not on it is no error."""
        self._log_file(log_id).unlink(missing_ok=True)

    def _entry(self, log_id: str) -> dict[str, str] | None:
        with _said(self.folder):
            if not self.folder.exists():
                return None
            self._logs()
            try:
                entry = json.loads(self._log_file(log_id).read_bytes())
            except (FileNotFoundError, ValueError):
                return None
        return entry if isinstance(entry, dict) and entry.get("log_id") == log_id and isinstance(entry.get("path"), str) else None

    def _logs(self) -> Path:
        _make_private_folder(self.folder)
        folder = self.folder / "logs"
        _make_private_folder(folder)
        return folder

    def _log_file(self, log_id: str) -> Path:
        return self.folder / "logs" / f"{hashlib.sha256(log_id.encode('utf-8', 'surrogatepass')).hexdigest()}.json"


def definition_parts(log_id: str, task_name: str, options_json: str, definition: Definition) -> tuple[str, ...]:
    """What is signed of a definition: the log it is in, the task's name and options, version, and all of the captured code.

    Example:
        >>> keyring.sign(*definition_parts(log_id, "score", options, definition))  # doctest: +SKIP
    """
    return "definition", log_id, task_name, options_json, definition.version, definition.to_json()


def is_signed(keyring: Keyring, log_id: str, row: StoredDefinition, definition: Definition) -> bool:
    """Whether this user's signature covers a definition as it stands in the log, its home, kind and version included."""
    parts = definition_parts(log_id, row.task, row.options, definition)
    if not keyring.verify(row.signature, *parts) or definition.version != row.version:
        return False
    said = json.loads(row.options)
    return bool(said["home"] == row.home and said["kind"] == row.kind)


def _message(parts: tuple[bytes | str, ...]) -> bytes:
    """Join parts so that no two lists give the same bytes: the count first, then each with its length."""
    encoded = [part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part for part in parts]
    return b"".join([_DOMAIN, len(encoded).to_bytes(8, "big"), *(len(part).to_bytes(8, "big") + part for part in encoded)])


# ---------------------------------------------------------------- files


@contextmanager
def _said(folder: Path) -> Iterator[None]:
    """Give what the operating system refuses as a sentence."""
    try:
        yield
    except OSError as error:
        raise UntrustedError(
            f"The folder of your key, {folder}, cannot be used ({(error.strerror or str(error)).lower()}), so nothing can be "
            "signed or verified: make it a writable folder, or set JUPYTER_DATA_DIR to one of your own."
        ) from error


def _make_private_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(folder, os.stat(folder), "chmod 700", stat.S_IWGRP | stat.S_IWOTH)  # noqa: PTH116  as for the key


def _create_key(path: Path) -> None:
    """Write a new key, complete before it is there; of several processes at once, the first wins and the others read its key."""
    temporary = path.with_name(f"key.{os.getpid()}.{secrets.token_hex(8)}")
    secret = secrets.token_bytes(_KEY_BYTES)
    try:
        _write_new(temporary, secret)
        os.link(temporary, path)  # unlike a rename, it never replaces a key that another process has just made
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        with suppress(FileExistsError):
            _write_new(path, secret)
    finally:
        temporary.unlink(missing_ok=True)


def _write_new(path: Path, content: bytes) -> None:
    """Create a file that must not exist yet, readable by nobody else at any moment, and on the disk when this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _read_key(path: Path) -> bytes:
    if path.is_symlink():
        raise UntrustedError(
            f"The key {path} is a link, so it is not used. Delete it to get a new key, and run your tasks' cells again."
        )
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        _check_private(path, os.fstat(file.fileno()), "chmod 600", 0o077)
        secret = file.read(_KEY_BYTES + 1)
    if len(secret) != _KEY_BYTES:
        raise UntrustedError(
            f"The key {path} is damaged: it has not {_KEY_BYTES} bytes. Delete it to get a new one; "
            "definitions signed with the old key are then restored by running their cells again."
        )
    return secret


def _check_private(path: Path, status: os.stat_result, command: str, forbidden: int) -> None:
    """Refuse a file or folder that belongs to somebody else, or that others have the `forbidden` rights to."""
    if sys.platform != "win32" and status.st_uid != os.geteuid():
        raise UntrustedError(
            f"{path} belongs to another user, so its key may be known to them and nothing signed with it is executed. "
            "Set JUPYTER_DATA_DIR to a folder of your own."
        )
    if os.name == "posix" and status.st_mode & forbidden:
        raise UntrustedError(
            f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):o}), so its key may be known to them and nothing "
            f"signed with it is executed. If nobody else has been on this machine: `{command} '{path}'`. "
            "Else delete the key and run the cells of your tasks again."
        )


def _jupyter_data_folder() -> Path:
    try:
        from jupyter_core.paths import jupyter_data_dir
    except ImportError:
        return _data_folder_without_jupyter()
    return Path(jupyter_data_dir())


def _data_folder_without_jupyter() -> Path:
    """The same folder that Jupyter would choose, on a machine without it."""
    named = os.environ.get("JUPYTER_DATA_DIR")
    if named:
        return Path(named)
    if platform.system() == "Darwin":
        return Path.home() / "Library" / "Jupyter"
    if platform.system() == "Windows":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "jupyter"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "jupyter"
