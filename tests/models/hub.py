"""A model hub on loopback, with the faults that real ones have."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Hub:
    """What it serves, how it fails, and what it was asked: (path, headers with lower-case names)."""

    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    api: bool = True
    lfs: bool = True
    cut_after: list[int] = field(default_factory=list)
    """Bytes after which each next file's connection is cut, until the list is used up."""
    statuses: list[int] = field(default_factory=list)
    """Statuses that the next file requests get instead of the file."""
    ignore_range: bool = False
    wrong_range: bool = False
    redirect: str = ""
    """Where files are redirected to: an address, or a path."""
    refuse: tuple[int, str] | None = None
    """Status and X-Error-Code of everything."""
    wrong_sha: bool = False
    on_file: Any = None
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    def of_files(self) -> list[dict[str, str]]:
        """The headers of each request for a file."""
        return [headers for path, headers in self.asked if "/resolve/" in path or path.startswith("/cdn/")]

    def listing(self) -> dict[str, Any]:
        entries = []
        for name, data in self.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(data)}
            if self.lfs:
                sha = hashlib.sha256(b"other" if self.wrong_sha else data).hexdigest()
                entry |= {"lfs": {"sha256": sha, "size": len(data)}, "blobId": "0" * 40}
            else:
                entry["blobId"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entries.append(entry)
        return {"sha": "c0ffee", "siblings": entries}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        hub: Hub = self.server.hub
        path = unquote(urlsplit(self.path).path)
        hub.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if hub.refuse:
            self._empty(hub.refuse[0], {"X-Error-Code": hub.refuse[1]} if hub.refuse[1] else {})
        elif path.startswith("/api/models/"):
            if not hub.api:
                self._empty(404)
                return
            body = json.dumps(hub.listing()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            self._file(hub, path)

    def _empty(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, hub: Hub, path: str) -> None:
        if hub.on_file:
            hub.on_file()
        name = path.split("/resolve/", 1)[1].split("/", 1)[1] if "/resolve/" in path else path.removeprefix("/cdn/")
        if hub.statuses:
            self._empty(hub.statuses.pop(0))
            return
        if hub.redirect and not path.startswith("/cdn/"):
            self._empty(302, {"Location": f"{hub.redirect}/{name}"})
            return
        if name not in hub.files:
            self._empty(404, {"X-Error-Code": "EntryNotFound"})
            return
        data, etag = hub.files[name], hub.etags.get(name, f'"{hashlib.md5(hub.files[name]).hexdigest()}"')
        start, status = 0, 200
        asked = self.headers.get("Range", "")
        if asked and not hub.ignore_range and self.headers.get("If-Range", etag) == etag:
            start, status = int(asked.removeprefix("bytes=").removesuffix("-")), 206
            if start >= len(data):
                self._empty(416, {"Content-Range": f"bytes */{len(data)}"})
                return
        if status == 206 and hub.wrong_range:
            start = 0
        body = data[start:]
        self.send_response(status)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(len(body)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if hub.cut_after:
            self.wfile.write(body[: hub.cut_after.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(body)


@contextmanager
def serve(hub: Hub) -> Iterator[Hub]:
    """Serve on a free port of 127.0.0.1 until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.hub = hub  # type: ignore[attr-defined]
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
