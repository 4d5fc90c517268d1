"""Where a log may not live: folders that another machine has too.

SQLite's locks, and the lock that tells that a worker lives, hold on one machine only; a program that copies files to other
machines copies a log in the middle of a write. So both kinds of folder are refused, with a local path proposed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from durable_nb.errors import UnfitFolderError

NETWORK = frozenset(
    {
        "nfs",
        "nfs3",
        "nfs4",
        "cifs",
        "smb2",
        "smb3",
        "smbfs",
        "afs",
        "afpfs",
        "webdav",
        "davfs",
        "ncpfs",
        "ceph",
        "glusterfs",
        "lustre",
    }
    | {
        f"fuse.{name}"
        for name in ("sshfs", "rclone", "s3fs", "gcsfuse", "goofys", "davfs", "glusterfs", "google-drive-ocamlfuse")
    }
)
SYNCED = frozenset(
    {"dropbox", "onedrive", "google drive", "googledrive", "my drive", "icloud drive", "mobile documents", "cloudstorage"}
    | {"nextcloud", "owncloud", "pcloud drive", "box sync"}
)
MARKS = (".stfolder", ".dropbox.cache")  # what synchronising programs leave in the folders that they have
MOUNTS = Path("/proc/self/mounts")
REMOTE_DRIVE = 4  # Windows' GetDriveType


def refuse_unfit(path: Path) -> None:
    """Refuse a path for a log.

    Raises:
        UnfitFolderError: it is on another machine, or copied to others; nothing was made.
    """
    here = Path(os.path.realpath(path))
    why = _why(here)
    if why is None:
        return
    folders = [Path.home(), Path(tempfile.gettempdir())]
    local = next((folder for folder in folders if _why(Path(os.path.realpath(folder / "x"))) is None), folders[-1])
    raise UnfitFolderError(
        f"The log {path} would stand in {why}, where SQLite's locks do not hold: name a path on a disk of this machine, "
        f"with `%durable open {local / 'durable_nb' / path.name}` or DURABLE_NB_LOG."
    )


def _why(path: Path) -> str | None:
    for folder in path.parents:
        name = folder.name.lower()
        if (
            name in SYNCED
            or name.startswith(tuple(f"{synced} " for synced in SYNCED))
            or any((folder / mark).exists() for mark in MARKS)
        ):
            return f"{folder}, which is copied to other machines"
    if sys.platform == "win32":
        import ctypes

        is_remote = str(path).startswith("\\\\") or ctypes.windll.kernel32.GetDriveTypeW(path.anchor) == REMOTE_DRIVE
        return f"the network drive {path.anchor}" if is_remote else None
    kind = kind_of_mount(path, _mounts())
    return f"a network folder ({kind})" if kind in NETWORK else None


def _mounts() -> str:
    """Give the mounted file systems as Linux lists them; nothing, where that cannot be told cheaply."""
    try:
        return MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""


def kind_of_mount(path: Path, mounts: str) -> str:
    r"""Give the kind of the file system on which a path lies, '' where that is not known.

    >>> kind_of_mount(Path("/home/ada/a b/x.db"), "/dev/sda / ext4 rw\nbox:/a /home/ada/a\\040b nfs4 rw\n")
    'nfs4'
    """
    best, kind = Path(), ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        if path.is_relative_to(point) and len(point.parts) >= len(best.parts):
            best, kind = point, fields[2]
    return kind
