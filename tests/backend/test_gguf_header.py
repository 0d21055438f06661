"""GGUF headers: the same as the gguf package reads, and one clear error for everything else."""

from __future__ import annotations

import hashlib
import random
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

gguf = pytest.importorskip("gguf")
np = pytest.importorskip("numpy")

from cultev.backend.gguf_header import (  # noqa: E402
    FILE_TYPES,
    TENSOR_TYPES,
    GgufHeader,
    SkippedArray,
)
from cultev.backend.gguf_read import gguf_sha256, read_gguf, sha256_file  # noqa: E402
from cultev.errors import (  # noqa: E402
    CultevError,
    ModelDamaged,
    ModelError,
    ModelNotFound,
    ModelUnsupported,
    NotAModel,
)
from tests.backend.gguf_models import CHATML, special_ids, write_tiny_gguf  # noqa: E402


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def touch_everything(header: GgufHeader) -> None:
    """Every property of a header can be asked, whatever its numbers."""
    for name in dir(type(header)):
        if not name.startswith("_"):
            getattr(header, name)


def write_kv(path: Path, *entries: bytes, n_tensors: int = 0, version: int = 3) -> Path:
    """A GGUF file of these encoded metadata entries."""
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", version, n_tensors, len(entries)) + b"".join(entries))
    return path


def packed(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def text_entry(key: str, value: str) -> bytes:
    return packed(key) + struct.pack("<I", 8) + packed(value)


# ---- what a sound file says


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_agrees_with_the_gguf_package(tmp_path: Path, architecture: str) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", architecture=architecture, vocab=2_000)
    header, reader = read_gguf(path), gguf.GGUFReader(path)
    theirs = [(t.name, tuple(map(int, t.shape)), t.tensor_type.name, int(t.n_bytes)) for t in reader.tensors]
    assert [(t.name, t.shape, t.type, t.n_bytes) for t in header.tensors] == theirs
    starts = {int(t.data_offset) - tensor.offset for t, tensor in zip(reader.tensors, header.tensors, strict=True)}
    assert len(starts) == 1
    assert header.expected_bytes == path.stat().st_size == header.file_bytes
    fields: dict[str, Any] = {
        key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")
    }
    assert set(fields) == set(header.metadata)
    for key, value in fields.items():
        ours = header.metadata[key]
        if isinstance(ours, SkippedArray):
            assert ours.count == len(value)
        elif isinstance(ours, tuple):
            assert list(ours) == value
        else:
            assert ours == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)
    assert isinstance(header.metadata["tokenizer.ggml.tokens"], SkippedArray)


def test_says_what_a_model_is(tiny: Path) -> None:
    header = read_gguf(str(tiny))
    assert (header.architecture, header.name, header.license) == ("llama", "tiny", "apache-2.0")
    assert (header.n_ctx, header.n_vocab, header.n_layers, header.n_embd) == (256, 320, 2, 64)
    assert (header.n_heads, header.n_kv_heads) == (4, 2)
    assert header.kv_bytes_per_token == 2 * 2 * 2 * (16 + 16)  # f16 x layers x kv heads x (d_k + d_v)
    assert header.chat_template == CHATML
    assert header.bos_token_id == special_ids()["<|bos|>"]
    assert header.eos_token_id == special_ids()["<|im_end|>"]
    assert header.quantization == "F16"
    assert header.tensor_types == {"F16": (16, 229_376), "F32": (5, 1_280)}
    assert header.n_params == 229_376 // 2 + 1_280 // 4
    assert header.parts == (tiny,)


def test_tables_agree_with_the_gguf_package() -> None:
    from gguf.constants import GGML_QUANT_SIZES

    for kind, (block, size) in GGML_QUANT_SIZES.items():
        assert TENSOR_TYPES[int(kind)] == (kind.name, block, size)
    for word in gguf.LlamaFileType:
        if word.name != "GUESSED":
            assert FILE_TYPES[int(word)] == word.name.removeprefix("MOSTLY_").removeprefix("ALL_")


def test_without_a_file_type_the_largest_tensor_type_counts(tmp_path: Path, tiny: Path) -> None:
    data = bytearray(tiny.read_bytes())
    place = data.index(b"general.file_type") + len("general.file_type") + 4
    data[place : place + 4] = struct.pack("<I", 9_999)
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    assert read_gguf(path).quantization == "F16"


def test_a_type_newer_than_this_reader_is_shown_by_number(tmp_path: Path, tiny: Path) -> None:
    data = bytearray(tiny.read_bytes())
    place = data.index(b"token_embd.weight") + len("token_embd.weight") + 4 + 16
    data[place : place + 4] = struct.pack("<I", 77)
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    assert read_gguf(path).tensors[0].type == "type77"


def test_per_layer_heads_make_the_cache(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "jamba")
    writer.add_block_count(4)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv([0, 2, 0, 1])
    writer.add_key_length(8)
    writer.add_value_length(24)
    writer.add_tensor("output_norm.weight", np.ones(64, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_gguf(tmp_path / "m.gguf")
    assert header.metadata["jamba.attention.head_count_kv"] == (0, 2, 0, 1)
    assert header.kv_bytes_per_token == 2 * 3 * (8 + 24)
    assert header.n_kv_heads == 2
    assert header.n_vocab == 0 and header.bos_token_id is None and header.chat_template == ""


def test_a_large_vocabulary_costs_little(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "m.gguf", vocab=150_000, embd=8, heads=2, kv_heads=1, layers=1)
    tracemalloc.start()
    try:
        header = read_gguf(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert header.n_vocab == 150_000
    assert peak < 8e6
    start = time.perf_counter()
    read_gguf(path)
    assert time.perf_counter() - start < 2  # some 30 ms; the bound only tells a mistake of kind


# ---- what is no model, or not a whole one


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 400387968\n", "Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"<HTML>", "web page"),
        (b"tjgg" + bytes(60), "before GGUF"),
        (struct.pack("<Q", 100) + b'{"__metadata__":{}}' + bytes(90), "safetensors"),
        (b"\x08\x07\x12\x07pytorch\x1a\x05" + bytes(60), "ONNX graph"),
        (b"PK\x03\x04" + bytes(60), "zip archive"),
        (b"\x1f\x8b\x08" + bytes(60), "compressed"),
        (b"SQLite format 3\x00" + bytes(60), "SQLite"),
        (b'{"architectures": []}', "JSON"),
        (b"hello there", "no GGUF file"),
        (b"\x00" * 5_000, "no GGUF file"),
    ],
)
def test_says_what_something_else_looks_like(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    with pytest.raises(NotAModel, match=word) as caught:
        read_gguf(path)
    assert caught.value.next_step
    assert "\n" not in caught.value.message


def test_a_pointer_states_its_size(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n".ljust(130, b"x"))
    with pytest.raises(NotAModel, match=r"130-byte Git LFS pointer: the model itself was not downloaded"):
        read_gguf(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for read in (read_gguf, sha256_file):
        with pytest.raises(ModelNotFound, match="There is no model at"):
            read(tmp_path / "absent.gguf")
        with pytest.raises(ModelError):
            read(tmp_path / "absent" / "deeper.gguf")
        with pytest.raises(NotAModel, match="folder"):
            read(tmp_path)


def test_an_unreadable_file(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelError, match="can't be read: Permission denied"):
        read_gguf(tiny)


@pytest.mark.parametrize(
    ("version", "error", "word"),
    [
        (1, ModelUnsupported, "version 1"),
        (4, ModelUnsupported, "version 4"),
        (3 << 24, ModelUnsupported, "big-endian"),
        (0, ModelDamaged, "version reads 0"),
        (0x12345678, ModelDamaged, "version reads"),
    ],
)
def test_other_versions(tmp_path: Path, version: int, error: type[CultevError], word: str) -> None:
    path = write_kv(tmp_path / "m.gguf", version=version)
    with pytest.raises(error, match=word):
        read_gguf(path)


def test_a_big_endian_file_of_the_gguf_package(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(str(path), "llama", endianess=gguf.GGUFEndian.BIG)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(ModelUnsupported, match="big-endian"):
        read_gguf(path)


@pytest.mark.parametrize(
    ("entries", "word"),
    [
        ([text_entry("general.type", "adapter")], "LoRA adapter"),
        ([text_entry("general.type", "imatrix")], "importance matrix"),
        ([text_entry("general.architecture", "clip")], "image or audio encoder"),
        ([text_entry("general.architecture", "llama")], "no weights"),
    ],
)
def test_gguf_files_that_are_no_language_model(tmp_path: Path, entries: list[bytes], word: str) -> None:
    with pytest.raises(ModelUnsupported, match=word):
        read_gguf(write_kv(tmp_path / "m.gguf", *entries))


# ---- damage


def test_cut_short_says_how_much_is_missing(tmp_path: Path, tiny: Path) -> None:
    data = tiny.read_bytes()
    path = tmp_path / "m.gguf"
    path.write_bytes(data[:-100_000])
    with pytest.raises(ModelDamaged, match=r"cut short: 0\.10 MB of 0\.24 MB are missing"):
        read_gguf(path)


def test_bytes_after_the_last_tensor_are_no_damage(tmp_path: Path, tiny: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny.read_bytes() + bytes(100))
    header = read_gguf(path)
    assert header.file_bytes == header.expected_bytes + 100


@pytest.mark.parametrize("n_bytes", [0, 1, 3, 4, 7, 20, 24, 100, 3_000])
def test_cut_within_the_header(tmp_path: Path, tiny: Path, n_bytes: int) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(tiny.read_bytes()[:n_bytes])
    with pytest.raises(ModelDamaged, match=r"empty|cut short"):
        read_gguf(path)


HUGE = struct.pack("<Q", 1 << 61)


@pytest.mark.parametrize(
    "entries",
    [
        [HUGE],  # a key's length
        [packed("k") + struct.pack("<I", 8) + HUGE],  # a text's
        [packed("k") + struct.pack("<II", 9, 8) + HUGE],  # an array of texts
        [packed("k") + struct.pack("<II", 9, 0) + HUGE],  # an array of bytes
        [packed("k") + struct.pack("<II", 9, 9) + HUGE],  # an array of arrays
        [packed("k") + struct.pack("<I", 13)],  # no such type
        [text_entry("k", "v"), text_entry("k", "v")],  # a key twice
        [packed("k") + struct.pack("<IIQ", 9, 8, 100) + HUGE * 100],  # lengths inside a long array
        [packed("general.alignment") + struct.pack("<II", 4, 0)],
        [packed("general.alignment") + struct.pack("<II", 4, 33)],
        [text_entry("general.alignment", "32")],
        [text_entry("general.name", "x")],  # no architecture
        [packed(f"k{k}") + struct.pack("<I", 8) + packed("x" * 3_000_000) for k in range(7)],
    ],
)
def test_nonsense_is_damage(tmp_path: Path, entries: list[bytes]) -> None:
    path = write_kv(tmp_path / "m.gguf", *entries)
    with pytest.raises(ModelDamaged) as caught:
        read_gguf(path)
    assert caught.value.next_step and len(caught.value.message) < 300 + len(str(path))


@pytest.mark.parametrize(
    "tensor",
    [
        packed("t") + struct.pack("<I", 5),  # five dimensions
        packed("t") + struct.pack("<IQIQ", 1, 0, 0, 0),  # no elements
        packed("t") + struct.pack("<IQQIQ", 2, 1 << 40, 1 << 40, 0, 0),  # too many
        packed("t") + struct.pack("<IQIQ", 1, 33, 8, 0),  # Q8_0 comes in blocks of 32
        packed("t") + struct.pack("<IQIQ", 1, 32, 0, 32),  # a gap before the first
    ],
)
def test_impossible_tensors_are_damage(tmp_path: Path, tensor: bytes) -> None:
    path = write_kv(tmp_path / "m.gguf", text_entry("general.architecture", "llama") + tensor)
    data = bytearray(path.read_bytes())
    data[8:16] = struct.pack("<Q", 1)
    path.write_bytes(bytes(data) + bytes(4_096))
    with pytest.raises(ModelDamaged):
        read_gguf(path)


def test_absurd_counts_are_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1 << 40, 1 << 40) + bytes(1_000))
    with pytest.raises(ModelDamaged, match="claims"):
        read_gguf(path)


def test_any_damage_is_a_clear_error_or_no_matter(tmp_path: Path) -> None:
    """Cut anywhere, flip bits, overwrite numbers: a CultevError or a header, in little memory."""
    path = tmp_path / "m.gguf"
    good = write_tiny_gguf(path, vocab=400, embd=16, layers=1).read_bytes()
    header = read_gguf(path)
    head = header.expected_bytes - sum(tensor.n_bytes for tensor in header.tensors)
    chance = random.Random(5)
    numbers = [b"\xff" * 8, bytes(8), HUGE, struct.pack("<Q", 10_000_000), struct.pack("<Q", 1 << 33)]
    outcomes = set()
    tracemalloc.start()
    try:
        for trial in range(800):
            bad = bytearray(good)
            kind = trial % 4
            place = chance.randrange(head - 8)
            if kind == 0:
                del bad[chance.randrange(head + 2_000) :]
            elif kind == 1:
                for _ in range(chance.choice((1, 1, 2, 8))):
                    bad[chance.randrange(head)] ^= 1 << chance.randrange(8)
            elif kind == 2:
                bad[place : place + 8] = chance.choice(numbers)
            else:
                # The structure is densest at both ends of the header: metadata first, tensor infos last.
                place = chance.choice((chance.randrange(600), head - 1 - chance.randrange(800)))
                bad[place] = chance.randrange(256)
            path.write_bytes(bad)
            try:
                touch_everything(read_gguf(path))
                outcomes.add("header")
            except CultevError as error:
                assert error.next_step and "\n" not in error.message
                outcomes.add(type(error).__name__)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert {"header", "ModelDamaged"} <= outcomes
    assert peak < 100e6


# ---- split models


def split_model(folder: Path) -> list[Path]:
    """Three parts as llama.cpp's splitter names them; the metadata is in the first."""
    paths = [folder / f"m-{k:05}-of-00003.gguf" for k in (1, 2, 3)]
    for k, path in enumerate(paths):
        writer = gguf.GGUFWriter(str(path), "llama")
        writer.add_uint16("split.no", k)
        writer.add_uint16("split.count", 3)
        writer.add_tensor(f"t{k}.weight", np.ones((2, 32), dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths


def test_a_split_model_is_read_whole(tmp_path: Path) -> None:
    paths = split_model(tmp_path)
    header = read_gguf(paths[0])
    assert header.parts == tuple(paths)
    assert [tensor.name for tensor in header.tensors] == ["t0.weight", "t1.weight", "t2.weight"]
    assert header.n_params == 192
    assert header.file_bytes == sum(path.stat().st_size for path in paths) >= header.expected_bytes


def test_missing_parts_are_named(tmp_path: Path) -> None:
    paths = split_model(tmp_path)
    paths[1].unlink()
    for given in (paths[0], paths[2]):
        with pytest.raises(ModelNotFound, match=r"missing: m-00002-of-00003\.gguf"):
            read_gguf(given)


def test_a_later_part_points_to_the_first(tmp_path: Path) -> None:
    paths = split_model(tmp_path)
    with pytest.raises(ModelUnsupported, match="part 2 of 3") as caught:
        read_gguf(paths[1])
    assert str(paths[0]) in caught.value.next_step


def test_a_damaged_part_is_named(tmp_path: Path) -> None:
    paths = split_model(tmp_path)
    paths[2].write_bytes(paths[2].read_bytes()[:-64])
    with pytest.raises(ModelDamaged, match="m-00003-of-00003"):
        read_gguf(paths[0])


def test_a_part_under_another_name(tmp_path: Path) -> None:
    paths = split_model(tmp_path)
    with pytest.raises(ModelUnsupported, match="part 1 of 3"):
        read_gguf(paths[0].rename(tmp_path / "model.gguf"))


# ---- hashing


def test_sha256_streams_and_tells_progress(tiny: Path) -> None:
    seen: list[tuple[int, int]] = []
    digest = sha256_file(tiny, progress=lambda done, size: seen.append((done, size)))
    assert digest == hashlib.sha256(tiny.read_bytes()).hexdigest() == sha256_file(str(tiny))
    size = tiny.stat().st_size
    assert seen[-1] == (size, size)


def test_a_models_hash_is_its_files(tiny: Path) -> None:
    assert gguf_sha256(read_gguf(tiny)) == sha256_file(tiny)
