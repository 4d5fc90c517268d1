"""Nothing is taken for this user's own that this user's key has not signed, exactly as it is."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from durable_nb.definitions import Constant, Definition, Keyring, definition_parts, trust
from durable_nb.errors import UntrustedError

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners are POSIX's")
SIGNED = Definition(
    name="task",
    source="def task(): return N",
    first_line=3,
    bindings=(Constant(name="N", value="1"),),
    lost=(),
    version="0123456789abcdef",
)


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "data" / "durable_nb")


# ---------------------------------------------------------------- signatures


def test_a_signature_holds_in_every_later_session(keyring: Keyring) -> None:
    parts = definition_parts("log-1", "task", "{}", SIGNED)
    signature = keyring.sign(*parts)
    later = Definition.from_json(SIGNED.to_json())
    assert len(signature) == 32
    assert Keyring(keyring.folder).verify(signature, *definition_parts("log-1", "task", "{}", later))


@pytest.mark.parametrize(
    ("log_id", "name", "options", "change"),
    [
        pytest.param("log-2", "task", "{}", {}, id="copied into another log"),
        pytest.param("log-1", "tas", "{}", {}, id="under another name"),
        pytest.param("log-1", "task", '{"retries":3}', {}, id="with other options"),
        pytest.param("log-1task", "", "{}", {}, id="name moved into the log id"),
        pytest.param("log-1", "task{}", "", {}, id="options moved into the name"),
        pytest.param("log-1", "task", "{}", {"source": "def task(): return N  "}, id="source"),
        pytest.param("log-1", "task", "{}", {"name": "other"}, id="function name"),
        pytest.param("log-1", "task", "{}", {"version": "0123456789abcdee"}, id="version"),
        pytest.param("log-1", "task", "{}", {"first_line": 4}, id="line"),
        pytest.param("log-1", "task", "{}", {"bindings": ()}, id="a binding left out"),
        pytest.param("log-1", "task", "{}", {"bindings": (Constant(name="N", value="2"),)}, id="a constant"),
        pytest.param("log-1", "task", "{}", {"future_annotations": True}, id="compiler flag"),
    ],
)
def test_whatever_is_changed_the_signature_fails(
    keyring: Keyring, log_id: str, name: str, options: str, change: dict[str, object]
) -> None:
    signature = keyring.sign(*definition_parts("log-1", "task", "{}", SIGNED))
    changed = dataclasses.replace(SIGNED, **change)  # type: ignore[arg-type]
    assert not keyring.verify(signature, *definition_parts(log_id, name, options, changed))


def test_signatures_cannot_be_swapped_shortened_or_used_for_another_kind(keyring: Keyring) -> None:
    one = keyring.sign(*definition_parts("log-1", "one", "{}", SIGNED))
    other = keyring.sign(*definition_parts("log-1", "other", "{}", SIGNED))
    parts = definition_parts("log-1", "one", "{}", SIGNED)
    assert keyring.verify(one, *parts)
    for wrong in (other, one[:-1], b"", one + b"\0", bytes(32)):
        assert not keyring.verify(wrong, *parts)
    assert not keyring.verify(one, "run", *parts[1:])
    assert not keyring.verify(one, *parts, "")


def test_another_users_key_verifies_nothing(keyring: Keyring, tmp_path: Path) -> None:
    stranger = Keyring(tmp_path / "stranger")
    signature = stranger.sign("definition", "x")
    assert stranger.verify(signature, "definition", "x") and not keyring.verify(signature, "definition", "x")


part = st.one_of(st.binary(max_size=3), st.text("ab\0", max_size=3))


@given(st.lists(part, max_size=4), st.lists(part, max_size=4))
def test_two_lists_of_parts_have_one_message_only_if_they_are_the_same(one: list[bytes | str], other: list[bytes | str]) -> None:
    def as_bytes(parts: list[bytes | str]) -> list[bytes]:
        return [value.encode() if isinstance(value, str) else value for value in parts]

    assert (trust._message(tuple(one)) == trust._message(tuple(other))) == (as_bytes(one) == as_bytes(other))


# ---------------------------------------------------------------- the key


@posix_only
def test_the_key_and_its_folders_are_private_from_the_start(keyring: Keyring) -> None:
    keyring.sign("a")
    keyring.remember("log-1", "a.db")
    modes = {path.name: path.stat().st_mode & 0o777 for path in (keyring.folder, keyring.folder / "key", keyring.folder / "logs")}
    assert modes == {"durable_nb": 0o700, "key": 0o600, "logs": 0o700}
    assert {path.stat().st_mode & 0o777 for path in (keyring.folder / "logs").iterdir()} == {0o600}
    assert (keyring.folder / "key").stat().st_size == 32


@posix_only
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_can_read_is_refused_not_repaired(keyring: Keyring, mode: int) -> None:
    keyring.sign("a")
    key = keyring.folder / "key"
    key.chmod(mode)
    with pytest.raises(UntrustedError, match=rf"key is open to other users \(mode {mode:o}\).*chmod 600 .*Else delete the key"):
        Keyring(keyring.folder).sign("a")
    assert key.stat().st_mode & 0o777 == mode


@posix_only
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722])
def test_a_folder_in_which_others_can_put_a_key_is_refused(keyring: Keyring, mode: int) -> None:
    keyring.sign("a")
    keyring.folder.chmod(mode)
    for use in (
        lambda: Keyring(keyring.folder).sign("a"),
        lambda: keyring.knows("log-1"),
        lambda: keyring.remember("log-1", "a"),
    ):
        with pytest.raises(UntrustedError, match=r"durable_nb is open to other users .*chmod 700"):
            use()


@posix_only
def test_a_key_of_another_user_is_refused(keyring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring.sign("a")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(UntrustedError, match=r"belongs to another user.*Set JUPYTER_DATA_DIR to a folder of your own"):
        Keyring(keyring.folder).sign("a")


@pytest.mark.parametrize("content", [b"", b"x" * 31, b"x" * 33])
def test_a_damaged_key_is_refused(keyring: Keyring, content: bytes) -> None:
    keyring.sign("a")
    (keyring.folder / "key").write_bytes(content)
    with pytest.raises(UntrustedError, match=r"key is damaged.*Delete it to get a new one"):
        Keyring(keyring.folder).sign("a")


@posix_only
def test_a_key_that_is_a_link_is_refused(keyring: Keyring, tmp_path: Path) -> None:
    keyring.sign("a")
    key = keyring.folder / "key"
    key.rename(tmp_path / "elsewhere")
    key.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UntrustedError, match="key is a link"):
        Keyring(keyring.folder).sign("a")


def test_of_many_who_make_the_key_at_once_all_have_the_same(keyring: Keyring) -> None:
    with ThreadPoolExecutor(16) as pool:
        signatures = set(pool.map(lambda _: Keyring(keyring.folder).sign("a"), range(64)))
    assert len(signatures) == 1
    assert [path.name for path in keyring.folder.iterdir()] == ["key"]


@pytest.mark.parametrize("links", [True, False])
def test_a_process_that_comes_second_reads_the_firsts_key(keyring: Keyring, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    first = Keyring(keyring.folder)
    create = trust._create_key

    def overtaken(path: Path) -> None:
        monkeypatch.setattr(trust, "_create_key", create)
        first.sign("a")
        create(path)

    def no_links(*_: object) -> None:
        raise OSError("no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(trust, "_create_key", overtaken)
    assert keyring.sign("a") == first.sign("a")
    assert [path.name for path in keyring.folder.iterdir()] == ["key"]


# ---------------------------------------------------------------- known logs


def test_known_logs(keyring: Keyring) -> None:
    assert not keyring.knows("log-1") and keyring.path_of("log-1") is None
    assert not keyring.folder.exists()
    keyring.remember("log-1", Path("a.db"))
    keyring.remember("log-2", "b.db")
    keyring.remember("log-1", "moved.db")
    assert Keyring(keyring.folder).knows("log-1") and keyring.path_of("log-1") == "moved.db"
    keyring.forget("log-1")
    keyring.forget("log-1")
    assert not keyring.knows("log-1") and keyring.knows("log-2")
    assert len(list((keyring.folder / "logs").iterdir())) == 1


@pytest.mark.parametrize("log_id", ["../../key", "", "a/b", "CON", "x" * 5000, "\ud800", "\0"])
def test_any_log_id_stays_within_the_folder(keyring: Keyring, log_id: str) -> None:
    keyring.remember(log_id, "a.db")
    assert keyring.knows(log_id) and not keyring.knows(log_id + "1")
    (file,) = (keyring.folder / "logs").iterdir()
    assert file.is_file()


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b'{"log_id": "log-2", "path": "a"}', b'{"log_id": "log-1", "path": 1}'])
def test_a_damaged_entry_is_an_unknown_log(keyring: Keyring, content: bytes) -> None:
    keyring.remember("log-1", "a.db")
    (file,) = (keyring.folder / "logs").iterdir()
    file.write_bytes(content)
    assert not keyring.knows("log-1")


def test_many_processes_worth_of_writers_lose_nothing(keyring: Keyring) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: Keyring(keyring.folder).remember(f"log-{number % 20}", f"{number}.db"), range(200)))
    assert all(keyring.knows(f"log-{number}") for number in range(20))
    assert len(list((keyring.folder / "logs").iterdir())) == 20


# ---------------------------------------------------------------- where it is


def test_the_default_is_jupyters_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    assert Keyring.default().folder == tmp_path / "durable_nb" == trust._data_folder_without_jupyter() / "durable_nb"


@pytest.mark.slow
def test_without_jupyter_the_same_folder_is_chosen(tmp_path: Path) -> None:
    code = """
import json, os, sys
from jupyter_core.paths import jupyter_data_dir
with_jupyter = jupyter_data_dir()
sys.modules["jupyter_core.paths"] = None
from durable_nb.definitions import Keyring
print(json.dumps([with_jupyter, str(Keyring.default().folder.parent)]))
"""
    env = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    for name in ("JUPYTER_DATA_DIR", "XDG_DATA_HOME", "JUPYTER_PLATFORM_DIRS"):
        env.pop(name, None)
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    with_jupyter, without = json.loads(done.stdout)
    assert with_jupyter == without


@pytest.mark.parametrize(
    ("system", "expected"),
    [("Darwin", "Library/Jupyter"), ("Windows", "AppData/Roaming/jupyter"), ("Linux", ".local/share/jupyter")],
)
def test_each_system_has_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, expected: str) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("JUPYTER_DATA_DIR", "XDG_DATA_HOME", "APPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert trust._data_folder_without_jupyter() == tmp_path / expected
