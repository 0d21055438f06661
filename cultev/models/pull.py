"""Model files from a hub: which belong together, where they go, and fetching them.

The hub's own scheme: ``{endpoint}/api/models/{repo}/revision/{revision}`` lists files with their sizes and
checksums, ``{endpoint}/{repo}/resolve/{revision}/{file}`` is a file.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath

from cultev.errors import CultevError, DownloadError, UsageError
from cultev.models.download import Wanted, download, matches
from cultev.models.files import require_room
from cultev.models.http import Client, Refused, Retries, Transient

ENDPOINT = "https://huggingface.co"
"""The hub that is asked unless another is named."""

COMPANIONS = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "config.json", "generation_config.json",
    "genai_config.json", "chat_template.jinja",
)  # fmt: skip
"""What an ONNX graph needs beside it, as far as a repository has it."""

Progress = Callable[[str, int, "int | None"], None]
"""Called with (file, bytes on disk, bytes in all if known)."""

_REPO = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
_PART = re.compile(r"-\d{5}-of-(\d{5})\.gguf$")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository. ``size`` is None and sums are '' where the hub doesn't say."""

    name: str
    size: int | None = None
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True)
class Repository:
    """A repository at one commit: all files come from the same, whatever happens to the branch meanwhile."""

    client: Client
    name: str
    revision: str
    commit: str
    files: tuple[RemoteFile, ...] | None
    """None where the endpoint has no lists."""

    def url(self, file: str) -> str:
        """Where a file is."""
        revision = urllib.parse.quote(self.commit or self.revision, safe="")
        return f"{self.client.endpoint}/{self.name}/resolve/{revision}/{urllib.parse.quote(file)}"


@dataclass(frozen=True)
class Pulled:
    """A file that is on the disk now."""

    path: Path
    size: int
    sha256: str
    fetched: bool
    """False: it was there already, and is the one wanted."""


def open_repository(client: Client, repo: str, revision: str, retries: Retries) -> Repository:
    """Ask what a repository holds.

    Raises:
        UsageError: ``repo`` is no repository's name.
        DownloadError: there is none, it may not be read, or the hub can't be reached.
    """
    if not _REPO.fullmatch(repo) or ".." in repo:
        raise UsageError(f"'{repo}' is no repository's name.", "Write it as OWNER/NAME.")
    at = urllib.parse.quote(revision, safe="")
    try:
        told = client.json(f"{client.endpoint}/api/models/{repo}/revision/{at}?blobs=true", retries)
    except Transient as error:
        raise DownloadError(
            f"{client.endpoint} can't be reached: {error}.", "Check the network, and try again."
        ) from error
    except Refused as refusal:
        if refusal.status == 404 and not refusal.header("X-Error-Code"):
            return Repository(client, repo, revision, "", None)  # a plain mirror: files only, no lists
        raise explain(refusal, client, repo, revision) from refusal
    siblings = told.get("siblings") if isinstance(told, dict) else None
    if not isinstance(siblings, list):
        raise DownloadError(f"{client.endpoint} does not answer as a model hub does.", "Check --endpoint.")
    files = tuple(found for entry in siblings if isinstance(entry, dict) and (found := _remote_file(entry)))
    commit = told.get("sha")
    return Repository(client, repo, revision, commit if isinstance(commit, str) else "", files)


def _remote_file(entry: dict[str, object]) -> RemoteFile | None:
    name, size, blob, lfs = (entry.get(key) for key in ("rfilename", "size", "blobId", "lfs"))
    if not isinstance(name, str) or not _is_safe(name):
        return None
    sha256 = lfs.get("sha256") if isinstance(lfs, dict) else ""
    if isinstance(lfs, dict):
        blob = ""  # git's name of the pointer, not of the file
    return RemoteFile(
        name,
        size if isinstance(size, int) else None,
        sha256.lower() if isinstance(sha256, str) else "",
        blob if isinstance(blob, str) else "",
    )


def _is_safe(name: str) -> bool:
    """Whether a name stays inside the folder that it is written to, on every system."""
    path = PurePosixPath(name)
    odd = "\\" in name or ":" in name or any(ord(char) < 32 for char in name)
    return bool(name) and not path.is_absolute() and ".." not in path.parts and not odd


def choose(repository: Repository, wanted: Sequence[str]) -> list[RemoteFile]:
    """The files that names and patterns mean, with those that they need.

    A split GGUF brings all its parts, an ONNX graph its weights, tokenizer and configuration.

    Raises:
        DownloadError: a name or pattern means no file.
        UsageError: a pattern where the endpoint lists no files.
    """
    known = {file.name: file for file in repository.files or ()}
    chosen: dict[str, RemoteFile] = {}
    for pattern in wanted:
        if repository.files is None:
            if any(char in pattern for char in "*?["):
                raise UsageError("This endpoint doesn't list files: patterns mean nothing.", "Name each file.")
            if not _is_safe(pattern):
                raise UsageError(f"'{pattern}' is no file's name.", "Write it as the repository does.")
            found = [RemoteFile(pattern)]
        elif pattern in known:
            found = [known[pattern]]
        else:
            found = [file for file in known.values() if fnmatchcase(file.name, pattern)]
        if not found:
            raise DownloadError(
                f"{repository.name} has no file '{pattern}' at {repository.revision}.",
                f"It has: {_some(model_files(repository))}.",
            )
        for file in found:
            chosen.setdefault(file.name, file)
            for needed in _needs(file.name, known):
                chosen.setdefault(needed, known[needed])
    return list(chosen.values())


def model_files(repository: Repository) -> list[RemoteFile]:
    """The GGUF files and ONNX graphs in it."""
    return [file for file in repository.files or () if file.name.endswith((".gguf", ".onnx"))]


def _some(files: Sequence[RemoteFile], most: int = 12) -> str:
    names = [file.name for file in files]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "no GGUF file and no ONNX graph"


def _needs(name: str, known: Iterable[str]) -> list[str]:
    part = _PART.search(name)
    if part:
        stem = name[: part.start()]
        return [
            n
            for n in known
            if n.startswith(stem) and (m := _PART.search(n)) and n[: m.start()] == stem and m[1] == part[1]
        ]
    if not name.endswith(".onnx"):
        return []
    rooms = {"", str(PurePosixPath(name).parent) + "/"} - {"./"}
    companions = {room + companion for room in rooms for companion in COMPANIONS}
    return [n for n in known if n in companions or n.startswith((f"{name}_data", f"{name}.data"))]


def pull(
    repository: Repository,
    files: Sequence[RemoteFile],
    folder: Path,
    *,
    sha256: str = "",
    force: bool = False,
    retries: Retries | None = None,
    progress: Progress = lambda name, done, total: None,
) -> list[Pulled]:
    """Fetch files into ``folder``, under the names that they have in the repository.

    Args:
        repository: from ``open_repository``.
        files: from ``choose``.
        folder: where to; made when there is none.
        sha256: what the one file's SHA-256 must be, in hexadecimal, whatever the hub says.
        force: replace files that are there and differ.
        retries: of failures that may pass.
        progress: told as bytes come.

    Raises:
        UsageError: ``sha256`` for several files, or another file is in the way.
        DownloadError, NoRoom: see ``cultev.errors``.
    """
    if sha256 and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError("--sha256 takes 64 hexadecimal digits.", "Copy it from where the file is described.")
    if sha256 and len(files) != 1:
        raise UsageError(f"--sha256 is for one file, and these are {len(files)}.", "Fetch the files one by one.")
    plans = [
        (folder.joinpath(*PurePosixPath(file.name).parts),
         Wanted(repository.url(file.name), file.size, sha256.lower() or file.sha256, file.blob if not sha256 else ""))
        for file in files
    ]  # fmt: skip
    there = {path for path, wanted in plans if path.exists() and matches(path, wanted)}
    for path, _ in plans:
        if path.exists() and path not in there and not force:
            raise UsageError(f"{path} exists already and is another file.", "Name another -o, or replace it: --force.")
    missing = [(path, wanted) for path, wanted in plans if path not in there]
    parts = [path.with_name(f"{path.name}.part") for path, _ in missing]
    begun = sum(part.stat().st_size for part in parts if part.is_file())
    require_room(folder, sum(wanted.size or 0 for _, wanted in missing) - begun)
    pulled = []
    for file, (path, wanted) in zip(files, plans, strict=True):
        if path in there:
            pulled.append(Pulled(path, path.stat().st_size, wanted.sha256, False))
            continue
        name = file.name
        tell = partial(progress, name)
        try:
            digest = download(repository.client, wanted, path, retries or Retries(), tell)
        except Refused as refusal:
            raise explain(refusal, repository.client, repository.name, repository.revision, name) from refusal
        except OSError as error:
            raise CultevError(
                f"{error.filename or path} can't be written: {error.strerror or error}.", "Name another folder with -o."
            ) from error
        pulled.append(Pulled(path, path.stat().st_size, digest, True))
    return pulled


def explain(refusal: Refused, client: Client, repo: str, revision: str, file: str = "") -> DownloadError:
    """A server's refusal as a sentence and what to do about it."""
    code = refusal.header("X-Error-Code")
    what = f"{file} of {repo}" if file else repo
    page = f"{client.endpoint}/{repo}"
    if code == "GatedRepo" or refusal.status == 403:
        how = "set HF_TOKEN to your access token" if not client.token else "check that HF_TOKEN may read it"
        return DownloadError(
            f"{what} is given only to those who accepted its terms.", f"Accept them at {page}, and {how}."
        )
    if refusal.status == 401:
        how = (
            "HF_TOKEN is not accepted." if client.token else "If it needs an account, set HF_TOKEN to an access token."
        )
        return DownloadError(f"There is no {what} that everybody may read.", f"Check the name. {how}")
    if code == "RevisionNotFound":
        return DownloadError(
            f"{repo} has no revision '{revision}'.", "Leave --revision out, or look it up at its page."
        )
    if refusal.status == 404:
        at = f" at {revision}" if file else ""
        return DownloadError(f"There is no {what}{at}.", f"Check the name at {page}")
    return DownloadError(
        f"The server refuses {what} (HTTP {refusal.status}).", "Try again later, or another --endpoint."
    )
