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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cultev.errors import ModelDamaged, ModelError, ModelNotFound, ModelUnsupported, NotAModel

TENSOR_TYPES: Mapping[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
"""Number -> name, elements in a block, bytes of a block (ggml.h)."""

FILE_TYPES: Mapping[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
    37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}  # fmt: skip
"""general.file_type -> the word that llama.cpp's quantizer takes for it (llama.h)."""

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

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class SkippedArray:
    """An array that was counted and not kept, such as the vocabulary."""

    count: int


Value = Scalar | tuple[Scalar, ...] | SkippedArray


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor. ``shape`` is in the file's order: the contiguous dimension (columns) first."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    """Bytes from where the tensors begin."""
    n_bytes: int
    """Without padding; 0 for a type that is not in TENSOR_TYPES ('type57')."""

    @property
    def n_elements(self) -> int:
        """Product of the shape."""
        product = 1
        for size in self.shape:
            product *= size
        return product


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """A GGUF model's header. Numbers that the file doesn't state are 0, texts '', token ids None.

    Of a split model this is the first part's header with the tensors of all ``parts``. Texts are the file's own
    words: whoever shows one must escape what a terminal would obey.
    """

    path: Path
    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    file_bytes: int
    """Real size, all parts together."""
    expected_bytes: int
    """Where the last tensor ends, all parts together: a sound file has this many bytes or a little more."""
    parts: tuple[Path, ...]
    """The files, in order; one unless the model is split."""

    def text(self, key: str) -> str:
        """A metadata text, '' when absent or no text."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else ""

    def number(self, key: str) -> int:
        """A metadata count, 0 when absent or no such number; of a per-layer array the largest element."""
        return max(_counts(self.metadata.get(key)), default=0)

    def _of_model(self, key: str) -> str:
        return f"{self.architecture}.{key}"

    @property
    def architecture(self) -> str:
        """llama.cpp's name of the architecture, such as 'llama' or 'qwen2'."""
        return self.text("general.architecture")

    @property
    def name(self) -> str:
        """general.name."""
        return self.text("general.name")

    @property
    def license(self) -> str:
        """general.license, an SPDX expression where the author kept to the specification."""
        return self.text("general.license") or self.text("general.license.name")

    @property
    def chat_template(self) -> str:
        """The Jinja source of the chat template."""
        return self.text("tokenizer.chat_template")

    @property
    def n_ctx(self) -> int:
        """Longest context the model was made for, in tokens."""
        return self.number(self._of_model("context_length"))

    @property
    def n_layers(self) -> int:
        """Transformer blocks."""
        return self.number(self._of_model("block_count"))

    @property
    def n_embd(self) -> int:
        """Width of the residual stream."""
        return self.number(self._of_model("embedding_length"))

    @property
    def n_heads(self) -> int:
        """Attention heads; the most of any layer where layers differ."""
        return self.number(self._of_model("attention.head_count"))

    @property
    def n_kv_heads(self) -> int:
        """Heads of keys and values; as many as ``n_heads`` where the file doesn't say."""
        return self.number(self._of_model("attention.head_count_kv")) or self.n_heads

    @property
    def n_vocab(self) -> int:
        """Tokens in the vocabulary."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, tuple):
            return len(tokens)
        if isinstance(tokens, SkippedArray):
            return tokens.count
        return self.number(self._of_model("vocab_size"))

    @property
    def n_params(self) -> int:
        """Weights, summed over tensors."""
        return sum(tensor.n_elements for tensor in self.tensors)

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of an f16 KV cache per token and sequence: 2 * sum over layers of kv_heads * (d_k + d_v).

        d_k and d_v are attention.key_length and value_length, n_embd / n_heads where not stated. An upper bound
        for models whose layers share caches or keep none and whose header doesn't say so per layer.
        """
        per_layer = _counts(self.metadata.get(self._of_model("attention.head_count_kv")))
        heads = sum(per_layer) if len(per_layer) > 1 else self.n_kv_heads * self.n_layers
        head_dim = self.n_embd // self.n_heads if self.n_heads else 0
        d_k = self.number(self._of_model("attention.key_length")) or head_dim
        d_v = self.number(self._of_model("attention.value_length")) or head_dim
        return 2 * heads * (d_k + d_v)

    @property
    def tensor_types(self) -> dict[str, tuple[int, int]]:
        """Tensor type -> how many tensors, how many bytes; the type with most bytes first."""
        found: dict[str, tuple[int, int]] = {}
        for tensor in self.tensors:
            count, size = found.get(tensor.type, (0, 0))
            found[tensor.type] = (count + 1, size + tensor.n_bytes)
        return dict(sorted(found.items(), key=lambda entry: -entry[1][1]))

    @property
    def quantization(self) -> str:
        """The quantizer's word (Q4_K_M, F16, ...), or the type that most bytes have where the file has none."""
        kind = self.metadata.get("general.file_type")
        word = FILE_TYPES.get(kind) if isinstance(kind, int) else None
        return word or next(iter(self.tensor_types), "")

    @property
    def bos_token_id(self) -> int | None:
        """Token id that opens a text."""
        return self._token("bos")

    @property
    def eos_token_id(self) -> int | None:
        """Token id that ends a text or a turn."""
        return self._token("eos")

    def _token(self, which: str) -> int | None:
        value = self.metadata.get(f"tokenizer.ggml.{which}_token_id")
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def _counts(value: Value | None) -> list[int]:
    """The counts in a metadata value: bools, negatives and anything else are none."""
    values = value if isinstance(value, tuple) else (value,)
    return [v for v in values if isinstance(v, int) and not isinstance(v, bool) and v >= 0]


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
