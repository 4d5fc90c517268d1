"""Where a log may not live: network folders, and those that a program copies to other machines."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from durable_nb.errors import UnfitFolderError
from durable_nb.log import places
from durable_nb.log.connection import prepare
from durable_nb.log.places import kind_of_mount, refuse_unfit

MOUNTS = "/dev/sda1 / ext4 rw 0 0\nserver:/home /home nfs4 rw 0 0\ntmpfs /home/local tmpfs rw 0 0\nbroken\n"


def test_the_innermost_mount_tells_the_kind() -> None:
    assert kind_of_mount(Path("/srv/x.db"), MOUNTS) == "ext4"
    assert kind_of_mount(Path("/home/ada/x.db"), MOUNTS) == "nfs4"
    assert kind_of_mount(Path("/home/local/x.db"), MOUNTS) == "tmpfs"
    assert kind_of_mount(Path("/homes/x.db"), MOUNTS) == "ext4"
    assert kind_of_mount(Path("/x.db"), "") == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows tells its network drives by another call, and needs one to test it")
def test_a_network_folder_is_refused_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nbox:/a {tmp_path} cifs rw 0 0\n")
    monkeypatch.setattr(places, "MOUNTS", mounts)
    with pytest.raises(
        UnfitFolderError, match=r"a network folder \(cifs\).*name a path on a disk of this machine.*%durable open"
    ):
        prepare(tmp_path / "x.db")
    assert not (tmp_path / "x.db").exists()


@pytest.mark.parametrize(
    "name", ["Dropbox", "Dropbox (Personal)", "OneDrive - Company", "Google Drive", "CloudStorage", "Nextcloud"]
)
def test_a_synced_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnfitFolderError, match="copied to other machines"):
        refuse_unfit(tmp_path / name / "work" / "x.db")


def test_a_folder_that_a_program_has_marked_is_refused_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / ".stfolder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "shared")
    with pytest.raises(UnfitFolderError, match="copied to other machines"):
        refuse_unfit(tmp_path / "link" / "x.db")


@pytest.mark.parametrize("name", ["dropbox-api", "mydropbox", "work"])
def test_other_folders_are_not(tmp_path: Path, name: str) -> None:
    refuse_unfit(tmp_path / name / "x.db")
