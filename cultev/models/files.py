"""Writing model files: never over another by accident, never half, never onto a full disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cultev.errors import CultevError, NoRoom, UsageError

SPARE = 50_000_000
"""Bytes that stay free on the disk beside what is written."""


def require_new(path: Path, *, force: bool = False) -> None:
    """Refuse to write where something is already, unless told to.

    Raises:
        UsageError: ``path`` exists and ``force`` is off.
    """
    if not force and path.exists():
        raise UsageError(f"{path} exists already.", "Name another with -o, or replace it with --force.")


def require_room(folder: Path, n_bytes: int) -> None:
    """Check that ``n_bytes`` and a little more fit on the disk that ``folder``, made or not, lies on.

    Raises:
        NoRoom: they don't; the message says how much is missing.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return  # a disk that doesn't tell: writing will
    if free < n_bytes + SPARE:
        raise NoRoom(
            f"{n_bytes / 1e6:,.0f} MB are needed in {folder.resolve()}, and {free / 1e6:,.0f} MB are free there.",
            f"Free {(n_bytes + SPARE - free) / 1e6:,.0f} MB, or name a place on another disk with -o.",
        )


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A path to write a file or folder to, beside ``target``, which it replaces once the block ends well.

    Whatever goes wrong (Ctrl-C too), ``target`` stays as it was and nothing is left beside it.

    Raises:
        CultevError: the place can't be written.
    """
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove(part)
        try:
            yield part
            _put(part, target)
        finally:
            _remove(part)
    except OSError as error:
        raise CultevError(
            f"{error.filename or target} can't be written: {error.strerror or error}.",
            "Name a place that can be written with -o.",
        ) from error


def _put(part: Path, target: Path) -> None:
    """Move ``part`` to ``target``; a folder there goes only once the new one is whole."""
    if not target.is_dir():
        part.replace(target)
        return
    old = target.with_name(f"{target.name}.old")
    _remove(old)
    target.rename(old)
    try:
        part.rename(target)
    except OSError:
        old.rename(target)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
