"""One file from a server to the disk: resumed where it was cut, and kept only if it is what it should be."""

from __future__ import annotations

import hashlib
import http.client
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cultev.errors import DownloadError, NoRoom
from cultev.models.http import Answer, Client, Refused, Retries, Transient, reason

CHUNK = 1 << 18
"""Bytes read at once."""

Progress = Callable[[int, int | None], None]
"""Called with (bytes on disk, bytes in all if known)."""


@dataclass(frozen=True)
class Wanted:
    """What a file should be. Sums are lower-case hexadecimal, '' where unknown; ``size`` None where unknown.

    ``blob`` is git's own name of a file: the SHA-1 of ``blob <size>`` and a zero byte, then the content.
    """

    url: str
    size: int | None = None
    sha256: str = ""
    blob: str = ""


class _Sums:
    """The sums of what has come so far; git's only where it is what a file is checked by."""

    def __init__(self, wanted: Wanted, size: int | None) -> None:
        self.sha256 = hashlib.sha256()
        self.blob = None
        if wanted.blob and not wanted.sha256 and size is not None:
            self.blob = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def blob_hex(self) -> str:
        """Git's name of the file, '' where it was not computed."""
        return self.blob.hexdigest() if self.blob is not None else ""

    def add(self, data: bytes) -> None:
        self.sha256.update(data)
        if self.blob is not None:
            self.blob.update(data)


def matches(path: Path, wanted: Wanted) -> bool:
    """Whether a file on the disk is the one wanted; False where nothing is known to compare by."""
    if wanted.size is not None and path.stat().st_size != wanted.size:
        return False
    sums = _Sums(wanted, path.stat().st_size)
    _add_file(sums, path)
    if wanted.sha256:
        return sums.sha256.hexdigest() == wanted.sha256
    return bool(wanted.blob) and sums.blob_hex() == wanted.blob


def download(client: Client, wanted: Wanted, target: Path, retries: Retries, progress: Progress) -> str:
    """Fetch a file to ``target`` by way of ``<target>.part``, which is kept whatever interrupts, to go on from.

    Returns:
        the SHA-256 of what was written.

    Raises:
        Refused: the server says no; nothing is kept of this try.
        DownloadError: the connection failed for good, or the content is not what it should be (it is set aside as
            ``<target>.bad``).
        NoRoom: the disk is full.
    """
    part = target.with_name(f"{target.name}.part")
    tag = target.with_name(f"{target.name}.part.etag")
    target.parent.mkdir(parents=True, exist_ok=True)
    failed, have = 0, -1
    while True:
        try:
            found = _once(client, wanted, part, tag, progress)
            break
        except (Transient, OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno == 28:
                raise NoRoom(f"The disk is full: {part} stopped at {_size(part) / 1e6:,.0f} MB.",
                             "Free some room and run it again: it goes on from there.") from error  # fmt: skip
            if isinstance(error, OSError) and error.filename is not None:
                raise  # the disk's fault, not the connection's
            # Whoever gives a little each time is not given up on.
            failed, have = (1 if _size(part) > have >= 0 else failed + 1), _size(part)
            if failed > retries.times:
                text = str(error) if isinstance(error, Transient) else reason(error)
                kept = f" {have / 1e6:,.1f} MB are kept." if have else ""
                raise DownloadError(
                    f"{target.name} could not be fetched from {client.endpoint}: {text}.{kept}",
                    "Run it again: it goes on where it stopped.",
                ) from error
            retries.wait(failed, getattr(error, "wait", 0.0))
    _check(found, target, part, tag)
    tag.unlink(missing_ok=True)
    part.replace(target)
    return found.sha256.hexdigest()


@dataclass(frozen=True)
class _Found:
    """A whole file on the disk, and what it should have been."""

    sha256: hashlib._Hash
    blob: str
    wanted: Wanted


def _check(found: _Found, target: Path, part: Path, tag: Path) -> None:
    wanted, got = found.wanted, found.sha256.hexdigest()
    if wanted.sha256:
        sound, told, came = got == wanted.sha256, wanted.sha256, got
    elif wanted.blob and found.blob:
        sound, told, came = found.blob == wanted.blob, wanted.blob, found.blob
    else:
        return
    if sound:
        return
    bad = target.with_name(f"{target.name}.bad")
    part.replace(bad)
    tag.unlink(missing_ok=True)
    raise DownloadError(
        f"{target.name} is not what it should be: its checksum is {came[:16]}..., not {told[:16]}.... "
        f"It is set aside as {bad.name}.",
        "Fetch it again; if it stays so, don't use this file.",
    )


def _once(client: Client, wanted: Wanted, part: Path, tag: Path, progress: Progress) -> _Found:
    """One try: ask for what is missing and write what comes.

    Raises:
        Transient, OSError, http.client.HTTPException: it was cut; ``part`` holds what came.
        Refused: the server says no.
    """
    have = _size(part)
    etag = tag.read_text(encoding="ascii", errors="replace") if tag.is_file() else ""
    if have and not etag and not wanted.sha256:
        have = 0  # nothing would show that the rest belongs to another file
    if wanted.size is not None and have > wanted.size:
        have = 0
    if have and have == wanted.size:
        return _finished(part, wanted)
    headers = {}
    if have:
        headers["Range"] = f"bytes={have}-"
        if etag:
            headers["If-Range"] = etag
    try:
        answer = client.open(wanted.url, headers)
    except Refused as refusal:
        if refusal.status != 416 or not have:
            raise
        total = re.search(r"\*/(\d+)$", refusal.header("Content-Range"))
        if total and int(total[1]) == have:
            return _finished(part, wanted)  # it was whole already
        part.unlink(missing_ok=True)
        tag.unlink(missing_ok=True)
        raise Transient("the file has changed there") from None
    with answer.body as body:
        begins = _begins(answer)
        if answer.status != 206 or begins != have:
            if answer.status == 206:
                part.unlink(missing_ok=True)
                tag.unlink(missing_ok=True)
                raise Transient("the server sent another part than was asked for")
            have = 0  # 200: the whole file, since it changed or since the server has no ranges
        wanted = _told(answer, wanted, have)
        sums = _Sums(wanted, wanted.size)
        with part.open("r+b" if have else "wb") as file:
            strong = answer.headers.get("ETag") or ""
            tag.write_text("" if strong.startswith("W/") else strong, encoding="ascii", errors="replace")
            if have:
                _add_open(sums, file, have)
            _copy(body, file, sums, have, wanted, progress)
    return _Found(sums.sha256, sums.blob_hex(), wanted)


def _copy(
    body: http.client.HTTPResponse, file: BinaryIO, sums: _Sums, have: int, wanted: Wanted, progress: Progress
) -> None:
    progress(have, wanted.size)
    while data := body.read(CHUNK):
        file.write(data)
        sums.add(data)
        have += len(data)
        progress(have, wanted.size)
    if wanted.size is not None and have < wanted.size:
        raise Transient("the connection was cut")
    if wanted.size is not None and have > wanted.size:
        file.truncate(0)
        raise Transient("more came than the file has")


def _told(answer: Answer, wanted: Wanted, have: int) -> Wanted:
    """What is wanted, with what only the answer says: the size, and the hub's checksum."""
    size, length = wanted.size, answer.headers.get("Content-Length") or ""
    if size is None and length.isdigit():
        size = have + int(length)
    linked = answer.header("X-Linked-Etag").removeprefix("W/").strip('"').lower()
    sha256 = wanted.sha256 or (linked if re.fullmatch(r"[0-9a-f]{64}", linked) else "")
    return Wanted(wanted.url, size, sha256, wanted.blob)


def _begins(answer: Answer) -> int:
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or "")
    return int(found[1]) if found else 0


def _finished(part: Path, wanted: Wanted) -> _Found:
    sums = _Sums(wanted, _size(part))
    _add_file(sums, part)
    return _Found(sums.sha256, sums.blob_hex(), wanted)


def _add_file(sums: _Sums, path: Path) -> None:
    with path.open("rb") as file:
        while data := file.read(1 << 20):
            sums.add(data)


def _add_open(sums: _Sums, file: BinaryIO, have: int) -> None:
    """Add the first ``have`` bytes and stand after them; what follows is cut off."""
    file.truncate(have)
    while data := file.read(1 << 20):
        sums.add(data)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
