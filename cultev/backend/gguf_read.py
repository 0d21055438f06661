"""What a GGUF file says of itself, read from its header alone: no engine, no weights, a few milliseconds.

Layout (the GGUF specification, versions 2 and 3, little endian)::

    "GGUF"  version u32  n_tensors u64  n_metadata u64
    n_metadata x  key, type u32, value                     strings are u64 length + UTF-8
    n_tensors  x  name, n_dims u32, dims u64 each, type u32, offset u64
    padding to general.alignment (32 unless said), then the tensors at their offsets, each padded likewise

A file is untrusted: every count is held against the bytes that are left before anything is walked or kept, so
that a damaged header costs neither gigabytes nor a traceback.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from cultev.backend.gguf_header import TENSOR_TYPES, GgufHeader, Scalar, SkippedArray, TensorInfo, Value
from cultev.backend.hashes import once
from cultev.errors import ModelDamaged, ModelError, ModelNotFound, ModelUnsupported, NotAModel

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MAX_ENTRIES = 65_536  # metadata keys, or tensors: the largest models have some thousands
_MAX_KEPT = 16 << 20  # bytes of all strings kept
_MAX_ARRAY = 1024  # elements of an array that is kept: per-layer numbers are, vocabularies are not
_WINDOW = 1 << 20
_NO_MODEL = {"adapter": "a LoRA adapter", "imatrix": "an importance matrix", "mmproj": "an image or audio encoder"}
_FETCH_AGAIN = "Fetch it again, and compare its size and checksum with the place it came from."

_WHAT_IT_IS = (
    (rb"version https://git-lfs", "is a {size}-byte Git LFS pointer: the model itself was not downloaded",
     "Run 'git lfs pull' in its folder, or fetch the file by its direct address."),
    (rb"\s*<(!doctype|html|\?xml|head|body)", "is a web page, not a model",
     "Fetch the file by its direct address; the page may say why that failed."),
    (rb"lmgg|tjgg|fmgg|algg", "is a GGML file, llama.cpp's format before GGUF", "Fetch a GGUF of the model."),
    (rb"[\x00-\xff]{4}[\x00-\x0f]\x00\x00\x00\{", "is a safetensors file",
     "Convert it to GGUF with llama.cpp's convert_hf_to_gguf.py, or export it to ONNX."),
    (rb"\x08[\x01-\x14][\x12\x1a\x22\x2a\x32\x3a\x42]", "is an ONNX graph, not a GGUF file",
     "Give the folder it lies in, or name it model.onnx."),
    (rb"PK\x03\x04|\x80[\x02-\x05]", "is a zip archive or a PyTorch checkpoint",
     "Unpack it if a model is inside, or fetch a GGUF of the model."),
    (rb"\x1f\x8b|\xfd7zXZ|7z\xbc\xaf|BZh|\x28\xb5\x2f\xfd|Rar!", "is a compressed archive", "Unpack it first."),
    (rb"SQLite format 3", "is an SQLite file, a suite or results perhaps, not a model",
     "Give a suite with --suite and results with --db."),
    (rb"\s*[{\[]", "is JSON text, not a model", "Give the .gguf file, or the folder of an ONNX model."),
)  # fmt: skip
"""First bytes -> what the file is, and the next step."""


def read_gguf(path: str | Path) -> GgufHeader:
    """Read a GGUF file's header, and those of its other parts when it is split.

    Raises:
        ModelNotFound: no such file, or parts of a split model are missing.
        NotAModel: something else; the message says what it looks like.
        ModelDamaged: cut short (how much is missing is said where it can be known), or nonsense.
        ModelUnsupported: another GGUF version, big endian, a part that is not the first, or no language
            model (an adapter, an image encoder, a vocabulary alone).
        ModelError: it can't be read.
    """
    path = Path(path)
    first = _read_part(path)
    kind = "mmproj" if first.architecture == "clip" else first.text("general.type")
    if kind in _NO_MODEL:
        raise ModelUnsupported(f"{path} is {_NO_MODEL[kind]}, not a language model.", "Give the model's own file.")
    count, number = first.number("split.count"), first.number("split.no")
    if count > 1:
        return _join(first, count, number)
    if not first.architecture:
        raise ModelDamaged(f"{path} does not name its architecture.", _FETCH_AGAIN)
    if not first.tensors:
        raise ModelUnsupported(f"{path} holds a vocabulary and no weights.", "Give the model's own file.")
    return first


def sha256_file(path: str | Path, progress: Callable[[int, int], None] | None = None) -> str:
    """SHA-256 of a whole file in hex, read block by block: about a second per GB.

    Args:
        path: the file.
        progress: called after each block with the bytes read so far and the file's size.

    Raises:
        ModelNotFound, ModelError: as ``read_gguf``.
    """
    digest, done = hashlib.sha256(), 0
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            while block := file.read(4 << 20):
                digest.update(block)
                done += len(block)
                if progress is not None:
                    progress(done, size)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def gguf_sha256(header: GgufHeader) -> str:
    """SHA-256 of a GGUF model: of its file, or of its parts' hashes, in order, when it is split.

    Raises:
        ModelNotFound, ModelError: as ``read_gguf``.
    """
    hashes = []
    for part in header.parts or (header.path,):
        try:
            hashes.append(once([part], partial(sha256_file, part)))
        except OSError as error:
            raise _unreadable(part, error) from error
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _unreadable(path: Path, error: OSError) -> ModelError:
    if isinstance(error, FileNotFoundError):
        return ModelNotFound(f"There is no model at {path}.", "Give the path of a .gguf file.")
    if path.is_dir():
        return NotAModel(f"{path} is a folder, not a GGUF file.", "Give the .gguf file in it.")
    return ModelError(f"{path} can't be read: {error.strerror or error}.", "Check who may read it.")


def _join(first: GgufHeader, count: int, number: int) -> GgufHeader:
    """The header of a split model: the other parts are named NAME-00002-of-00003.gguf and lie beside the first."""
    path = first.path
    named = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name)
    if named is None or int(named[2]) != number + 1 or int(named[3]) != count:
        raise ModelUnsupported(
            f"{path} is part {number + 1} of {count}, which its name does not say: the others can't be found.",
            f"Name it NAME-{number + 1:05}-of-{count:05}.gguf and put the other parts beside it.",
        )
    parts = tuple(path.with_name(f"{named[1]}-{k:05}-of-{count:05}.gguf") for k in range(1, count + 1))
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ModelNotFound(
            f"{path.name} is part {number + 1} of {count}, and {len(missing)} are missing: {shown}.",
            f"Put them into {path.parent}.",
        )
    if number != 0:
        raise ModelUnsupported(f"{path} is part {number + 1} of {count} of a model.", f"Give the first: {parts[0]}")
    headers = [first, *(_read_part(part) for part in parts[1:])]
    return GgufHeader(
        path, first.version, first.metadata, tuple(tensor for header in headers for tensor in header.tensors),
        first.alignment, sum(header.file_bytes for header in headers),
        sum(header.expected_bytes for header in headers), parts,
    )  # fmt: skip


def _read_part(path: Path) -> GgufHeader:
    try:
        if path.exists() and not path.is_file():
            raise NotAModel(f"{path} is a folder or a device, not a GGUF file.", "Give the .gguf file itself.")
        with path.open("rb") as file:
            return _parse(_Cursor(file, path))
    except OSError as error:
        raise _unreadable(path, error) from error


class _Cursor:
    """Reads forward through the file, a window at a time; never asks for more than is left."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.path = path
        self.size = file.seek(0, 2)
        self._file = file
        self._start = 0  # where the window begins in the file
        self._window = b""
        self._at = 0  # in the window, or beyond it after a skip
        self._kept = 0

    @property
    def position(self) -> int:
        return self._start + self._at

    def damaged(self, what: str) -> ModelDamaged:
        return ModelDamaged(f"{self.path} is damaged: {what}.", _FETCH_AGAIN)

    def require(self, n_bytes: int) -> None:
        """Make sure that so many bytes are left in the file."""
        if n_bytes > self.size - self.position:
            raise ModelDamaged(
                f"{self.path} is cut short or damaged: its header does not end within its {self.size / 1e6:,.2f} MB.",
                _FETCH_AGAIN,
            )

    def peek(self, n_bytes: int) -> bytes:
        """The next bytes, fewer where the file ends."""
        n_bytes = min(n_bytes, self.size - self.position)
        self._fill(n_bytes)
        return self._window[self._at : self._at + n_bytes]

    def keep(self, n_bytes: int) -> None:
        """Account for what stays in memory."""
        self._kept += n_bytes
        if self._kept > _MAX_KEPT:
            raise self.damaged("its header holds absurdly long texts or lists")

    def _fill(self, n_bytes: int) -> None:
        if self._at + n_bytes > len(self._window):
            self.require(n_bytes)
            self._start, self._at = self.position, 0
            self._file.seek(self._start)
            self._window = self._file.read(max(n_bytes, _WINDOW))
            if len(self._window) < n_bytes:
                raise self.damaged("it became shorter while it was read")

    def skip(self, n_bytes: int) -> None:
        self.require(n_bytes)
        self._at += n_bytes

    def take(self, code: str) -> Scalar:
        """One number or truth value, by struct's code."""
        size = struct.calcsize(f"<{code}")
        self._fill(size)
        value: Scalar = struct.unpack_from(f"<{code}", self._window, self._at)[0]
        self._at += size
        return value

    def count(self, code: str = "Q") -> int:
        return int(self.take(code))

    def string(self) -> str:
        size = self.count()
        self.require(size)
        self.keep(size)
        self._fill(size)
        self._at += size
        return self._window[self._at - size : self._at].decode(errors="replace")

    def skip_strings(self, count: int) -> None:
        """Walk over strings. This loop is what opening a large vocabulary costs."""
        length_at = struct.Struct("<Q").unpack_from
        while count:
            self._fill(8)
            window, at = self._window, self._at
            last = len(window) - 8
            while count and at <= last:
                at += 8 + length_at(window, at)[0]
                count -= 1
            self.skip(at - self._at)


def _parse(cursor: _Cursor) -> GgufHeader:
    version = _read_version(cursor)
    n_tensors, n_entries = cursor.count(), cursor.count()
    if n_tensors > _MAX_ENTRIES or n_entries > _MAX_ENTRIES:
        raise cursor.damaged(f"it claims {n_tensors:,} tensors and {n_entries:,} metadata keys")
    metadata: dict[str, Value] = {}
    for _ in range(n_entries):
        key = cursor.string()
        if key in metadata:
            raise cursor.damaged(f"its metadata states {key[:80]!r} twice")
        metadata[key] = _read_value(cursor, key)
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 24 or alignment & (alignment - 1):
        raise cursor.damaged(f"its alignment is {str(alignment)[:40]}, no power of two")
    tensors = tuple(_read_tensor(cursor) for _ in range(n_tensors))
    start = _padded(cursor.position, alignment)
    end = start if tensors else cursor.position
    sized = all(tensor.n_bytes for tensor in tensors)
    for tensor in tensors:
        # llama.cpp wants tensors without gaps; those of a type we don't know have a size we don't know.
        if sized and start + tensor.offset != _padded(end, alignment):
            raise cursor.damaged(f"its tensor {tensor.name[:80]!r} is not where it must be")
        end = max(end, start + tensor.offset + tensor.n_bytes)
    if end > cursor.size:
        missing, whole = (end - cursor.size) / 1e6, end / 1e6
        raise ModelDamaged(
            f"{cursor.path} is cut short: {missing:,.2f} MB of {whole:,.2f} MB are missing.",
            "Fetch it again, or let the download go on.",
        )
    return GgufHeader(cursor.path, version, metadata, tensors, alignment, cursor.size, end, (cursor.path,))


def _padded(n_bytes: int, alignment: int) -> int:
    return -(-n_bytes // alignment) * alignment


def _read_version(cursor: _Cursor) -> int:
    """Check the magic number and the version, which also tells the byte order."""
    path = cursor.path
    head = cursor.peek(512)
    if not head.startswith(b"GGUF"):
        if b"GGUF".startswith(head):
            raise ModelDamaged(f"{path} is {'empty' if not head else 'cut short'}.", _FETCH_AGAIN)
        for pattern, what, step in _WHAT_IT_IS:
            if re.match(pattern, head, re.IGNORECASE):
                raise NotAModel(f"{path} {what.format(size=cursor.size)}.", step)
        raise NotAModel(f"{path} is no GGUF file: it begins with {head[:4]!r}.", "Give a .gguf file or an ONNX folder.")
    cursor.skip(4)
    version = cursor.count("I")
    if version in (2, 3):
        return version
    if version and not version & 0xFFFF:
        raise ModelUnsupported(f"{path} was written for big-endian machines.", "Fetch the little-endian file of it.")
    if version == 1:
        raise ModelUnsupported(f"{path} is GGUF version 1, which llama.cpp dropped.", "Fetch or convert it anew.")
    if 3 < version < 100:
        raise ModelUnsupported(f"{path} is GGUF version {version}; 2 and 3 are known here.", "Update cultev.")
    raise cursor.damaged(f"its version reads {version}")


def _read_value(cursor: _Cursor, key: str) -> Value:
    kind = cursor.count("I")
    if kind in _SCALARS:
        return cursor.take(_SCALARS[kind])
    if kind == _STRING:
        return cursor.string()
    if kind != _ARRAY:
        raise cursor.damaged(f"its metadata key {key[:80]!r} has no known type")
    kind, count = cursor.count("I"), cursor.count()
    if kind == _STRING:
        cursor.require(8 * count)
        if count <= _MAX_ARRAY // 16:
            return tuple(cursor.string() for _ in range(count))
        cursor.skip_strings(count)
    elif kind in _SCALARS:
        if count <= _MAX_ARRAY:
            cursor.keep(8 * count)
            return tuple(cursor.take(_SCALARS[kind]) for _ in range(count))
        cursor.skip(struct.calcsize(f"<{_SCALARS[kind]}") * count)
    else:
        raise cursor.damaged(f"its metadata key {key[:80]!r} is an array of no known type")
    return SkippedArray(count)


def _read_tensor(cursor: _Cursor) -> TensorInfo:
    name, n_dims = cursor.string(), cursor.count("I")
    if n_dims > 4:
        raise cursor.damaged(f"its tensor {name[:80]!r} has {n_dims:,} dimensions")
    shape = tuple(cursor.count() for _ in range(n_dims))
    kind, offset = cursor.count("I"), cursor.count()
    word, block, block_bytes = TENSOR_TYPES.get(kind, (f"type{kind}", 1, 0))
    tensor = TensorInfo(name, shape, word, offset, 0)
    elements = tensor.n_elements
    if not 0 < elements < 1 << 62 or (shape[0] if shape else 1) % block:
        raise cursor.damaged(f"its tensor {name[:80]!r} has an impossible shape")
    return TensorInfo(name, shape, word, offset, elements // block * block_bytes)
