"""Hashes of model files, each computed once a run: the run asks for one before the model is loaded, the engine after.

A file counts as the same as long as its path, size and time of change are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Seen = tuple[tuple[tuple[str, int, int], ...], bytes]
"""(path, size, time of change in ns) of each file; what else went into the hash."""

_known: dict[Seen, str] = {}


def once(files: Sequence[Path], compute: Callable[[], str], beside: bytes = b"") -> str:
    """What ``compute`` makes of some files and of what is ``beside`` them, unless it is known.

    Raises:
        OSError: there is no such file.
    """
    stats = [(file, file.stat()) for file in files]
    seen = tuple((str(file.absolute()), stat.st_size, stat.st_mtime_ns) for file, stat in stats), beside
    if seen not in _known:
        _known[seen] = compute()
    return _known[seen]


def known() -> dict[Seen, str]:
    """All that is known here, for another process."""
    return dict(_known)


def know(hashes: Mapping[Seen, str]) -> None:
    """Take over what another process knows."""
    _known.update(hashes)
