"""HTTP for ``cultev models pull``, the only code of cultev that reaches a network. Standard library only.

A token goes to the host it was meant for and to no other, whatever a server redirects to.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cultev import __version__
from cultev.errors import DownloadError

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as dead."""

_TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MOST_JSON = 64_000_000
"""Bytes of an answer that is read into memory."""


class Transient(Exception):
    """A failure that may pass: worth another try after ``wait`` seconds (0: as the caller likes)."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


class Refused(Exception):
    """The server's answer is no: its status and the headers that say more."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"HTTP {status}")
        self.status = status
        self._headers = {name.lower(): value for name, value in headers.items()}

    def header(self, name: str) -> str:
        """A header, '' when there is none."""
        return self._headers.get(name.lower(), "")


@dataclass
class Answer:
    """An open response. ``headers`` are those of the last hop; ``linked`` those of hops before it, later ones first."""

    status: int
    headers: Mapping[str, str]
    body: Any
    linked: list[Mapping[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str:
        """A header of any hop, the last one's first; '' when none has it."""
        for headers in (self.headers, *self.linked):
            value = headers.get(name)
            if value:
                return value
        return ""


@dataclass(frozen=True)
class Retries:
    """How often a failure that may pass is tried again: ``times``, waiting ``first`` seconds, doubled each time."""

    times: int = 5
    first: float = 1.0
    most: float = 30.0
    sleep: Callable[[float], None] = time.sleep

    def wait(self, failed: int, asked: float = 0.0) -> None:
        """Wait after the ``failed``-th failure in a row, counted from 1; as long as a server asks, within a limit."""
        self.sleep(min(self.most, max(asked, self.first * 2 ** (failed - 1))))


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what must be equal for a token to go along."""
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, drops the token where the host changes, and remembers the headers on the way."""

    def __init__(self) -> None:
        self.hops: list[Mapping[str, str]] = []

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if code not in (301, 302, 303, 307, 308):
            return None
        scheme, before = origin(newurl)[0], origin(req.full_url)[0]
        if scheme not in ("http", "https") or (before == "https" and scheme != "https"):
            raise DownloadError(
                f"The server redirects from {before} to {scheme}, where nobody could tell who answers.",
                "Name another --endpoint.",
            )
        self.hops.insert(0, headers)
        kept = {key: value for key, value in req.header_items() if key.lower() != "host"}
        if origin(newurl) != origin(req.full_url):
            kept = {key: value for key, value in kept.items() if key.lower() != "authorization"}
        return urllib.request.Request(newurl.replace(" ", "%20"), headers=kept, origin_req_host=req.origin_req_host)

    http_error_308 = urllib.request.HTTPRedirectHandler.http_error_302  # Python 3.10 lacks it


class Client:
    """Opens URLs below one endpoint, with its token."""

    def __init__(self, endpoint: str, token: str = "", timeout: float = TIMEOUT) -> None:
        self.endpoint = endpoint.rstrip("/")
        scheme, host, _ = origin(self.endpoint)
        if scheme not in ("http", "https") or not host:
            raise DownloadError(f"'{endpoint}' is no address of a server.", "Give --endpoint as https://host")
        # A token in the open would be everybody's.
        self.token = token if scheme == "https" or host in _LOOPBACK else ""
        self.timeout = timeout

    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a GET and follow redirects.

        Raises:
            Transient: no connection, no answer in time, or a status that may pass.
            Refused: any other status of 400 or more.
            DownloadError: a redirect that must not be followed, or too many.
        """
        sent = {"User-Agent": f"cultev/{__version__}", "Accept-Encoding": "identity", **(headers or {})}
        if self.token and origin(url) == origin(self.endpoint):
            sent["Authorization"] = f"Bearer {self.token}"
        redirects = _Redirects()
        opener = urllib.request.build_opener(redirects)
        try:
            body = opener.open(urllib.request.Request(url, headers=sent), timeout=self.timeout)
        except urllib.error.HTTPError as error:
            status, answer = error.code, error.headers
            error.close()
            if status in _TRANSIENT:
                asked = answer.get("Retry-After", "")
                raise Transient(
                    f"the server answers {status} ({error.reason})", float(asked) if asked.isdigit() else 0.0
                ) from None
            if status in (301, 302, 303, 307, 308):
                raise DownloadError("The server redirects without end.", "Name another --endpoint.") from None
            raise Refused(status, dict(answer.items())) from None
        except (OSError, http.client.HTTPException) as error:
            raise Transient(reason(error)) from error
        return Answer(body.status, body.headers, body, redirects.hops)

    def json(self, url: str, retries: Retries) -> Any:
        """A whole JSON answer, tried again as ``retries`` says.

        Raises:
            Refused, DownloadError, and Transient after the last try.
        """
        failed = 0
        while True:
            try:
                with self.open(url, {"Accept": "application/json"}).body as body:
                    text = body.read(_MOST_JSON)
                return json.loads(text)
            except ValueError as error:
                raise DownloadError(
                    f"{self.endpoint} does not answer as a model hub does: {error}.",
                    "Check --endpoint (or HF_ENDPOINT).",
                ) from error
            except (Transient, OSError, http.client.HTTPException) as error:
                failed += 1
                if failed > retries.times:
                    raise Transient(str(error) if isinstance(error, Transient) else reason(error)) from error
                retries.wait(failed, getattr(error, "wait", 0.0))


def reason(error: BaseException) -> str:
    """Why a connection failed, in words."""
    inner = getattr(error, "reason", error)
    cause = inner if isinstance(inner, BaseException) else error
    if isinstance(cause, (TimeoutError, socket.timeout)):
        return "it did not answer in time"
    if isinstance(cause, ssl.SSLError):
        return f"its certificate or encryption is not accepted ({cause.reason or cause})"
    if isinstance(cause, socket.gaierror):
        return "its name can't be found: is there a network?"
    if isinstance(cause, ConnectionRefusedError):
        return "it refuses the connection"
    if isinstance(cause, (ConnectionError, http.client.HTTPException)):
        return "the connection was cut"
    return str(getattr(cause, "strerror", None) or cause)
