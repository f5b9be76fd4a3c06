"""Files that are written whole or not at all, and where those are that can be computed anew."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tdsl.errors import TdslError


@contextlib.contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A temporary file beside `target` that takes its place when the block succeeds, with its permissions.

    Raises `OSError` where the folder is missing, full or not writable; `target` is then as it was.
    """
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        os.chmod(part, _mode(target))
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def written(target: Path) -> Iterator[Path]:
    """As `whole`, for a file that a user asked for: its folder is made, and what is in the way is said.

    Raises `TdslError` where the folder cannot be made, is full or not writable.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as part:
            yield part
    except OSError as reason:
        raise TdslError(
            f"cannot write {target}: {reason.strerror or reason}",
            hint="the folder must be writable and have room",
        ) from None


def cache_folder() -> Path:
    """Where what can be computed anew is kept for this user, between processes."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "tdsl"


def keep(path: Path, text: str) -> None:
    """Keep a text that can be computed anew, behind its digest, if that can be written."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part:
            part.write_text(f"{_digest(text)}\n{text}", encoding="utf-8")


def kept(path: Path) -> str | None:
    """The text that was kept there; `None` where there is none, or it is damaged."""
    try:
        digest, _, text = path.read_text(encoding="utf-8").partition("\n")
    except (OSError, ValueError):
        return None
    return text if _digest(text) == digest else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _mode(target: Path) -> int:
    """The permissions of `target`, or those that an ordinary new file gets."""
    try:
        return stat.S_IMODE(target.stat().st_mode)
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def require_writable(path: Path) -> None:
    """Refuse a target that cannot be written, before the work and not after it; creates nothing.

    Raises `TdslError`.
    """
    if path.is_dir():
        raise TdslError(f"cannot write {path}: it is a directory", expected="the path of a file")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise TdslError(f"cannot write {path}: {folder} is not a directory")
    if not os.access(folder, os.W_OK):
        raise TdslError(f"cannot write {path}: no permission to write in {folder}")
