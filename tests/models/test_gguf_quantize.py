"""GGUF files made smaller: they load, they say nearly the same, and nothing is lost on the way."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llama_cpp")
pytest.importorskip("gguf")

from cultev.backend.gguf_read import read_gguf
from cultev.errors import EngineError, ModelUnsupported, NoRoom, UsageError
from cultev.models import files, gguf_quantize
from cultev.models.gguf_quantize import find_type, quantize_gguf, type_names
from cultev.models.quantize import default_output
from tests.backend.gguf_models import write_tiny_gguf
from tests.models.scores import scores


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny-f16.gguf", embd=256)


def test_eight_bits_say_nearly_the_same_and_four_bits_less_nearly(source: Path, tmp_path: Path) -> None:
    original = scores(source, 300)
    off = {}
    seen: list[tuple[int, int]] = []
    for kind in ("q8_0", "Q4_K_M"):
        target = tmp_path / f"{kind}.gguf"
        quantize_gguf(source, target, kind, threads=1, progress=lambda done, total: seen.append((done, total)))
        header = read_gguf(target)
        assert header.quantization == kind.upper()
        assert header.n_params == read_gguf(source).n_params
        assert header.chat_template == read_gguf(source).chat_template
        assert target.stat().st_size < source.stat().st_size * 0.6
        off[kind] = float(np.abs(scores(target, 300) - original).mean())
    assert 0 < off["q8_0"] < 0.3
    assert off["q8_0"] < off["Q4_K_M"] < 3.0  # of log-probabilities of about -20
    assert seen and seen[-1][0] == seen[-1][1] > 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Q4_K_M.gguf", "q8_0.gguf"]


def test_every_type_that_the_library_has_can_be_named() -> None:
    assert {"Q4_K_M", "Q8_0", "IQ4_XS", "F16", "F32", "TQ2_0"} <= set(type_names())
    assert find_type("q4_k_m") == find_type("Q4-K") == "Q4_K_M"
    with pytest.raises(UsageError, match="importance matrix"):
        find_type("iq2_xxs")
    with pytest.raises(UsageError) as caught:
        find_type("q9")
    assert "Q4_K_M" in caught.value.next_step and "IQ2_XXS" not in caught.value.next_step


def test_quantizing_twice_is_refused_with_the_reason(source: Path, tmp_path: Path) -> None:
    once = tmp_path / "once.gguf"
    quantize_gguf(source, once, "q8_0", threads=1)
    with pytest.raises(ModelUnsupported, match="second rounding") as caught:
        quantize_gguf(once, tmp_path / "twice.gguf", "q4_0", threads=1)
    assert "--allow-requantize" in caught.value.next_step
    quantize_gguf(once, tmp_path / "twice.gguf", "q4_0", threads=1, allow_requantize=True)
    assert read_gguf(tmp_path / "twice.gguf").quantization == "Q4_0"


def test_what_is_there_stays_unless_forced(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    target.write_bytes(b"mine")
    with pytest.raises(UsageError, match="exists already"):
        quantize_gguf(source, target, "q8_0")
    assert target.read_bytes() == b"mine"
    quantize_gguf(source, target, "q8_0", threads=1, force=True)
    assert read_gguf(target).quantization == "Q8_0"


def test_the_source_is_never_replaced(tmp_path: Path) -> None:
    source = write_tiny_gguf(tmp_path / "a.gguf")
    before = source.read_bytes()
    with pytest.raises(UsageError, match="its own source"):
        quantize_gguf(source, source, "q8_0", force=True)
    assert source.read_bytes() == before


def test_a_full_disk_is_seen_before(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SPARE", 1 << 60)
    with pytest.raises(NoRoom, match="are needed"):
        quantize_gguf(source, tmp_path / "new" / "out.gguf", "q8_0")
    assert not (tmp_path / "new").exists()


def test_a_failure_keeps_what_was_there_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_tiny_gguf(tmp_path / "a.gguf", embd=64)  # no tensor has 256 columns: ternary types can't hold it
    target = tmp_path / "out.gguf"
    target.write_bytes(b"mine")
    damaged = bytearray(source.read_bytes())
    at = damaged.index(b"general.architecture") + len("general.architecture") + 4
    damaged[at + 8 : at + 13] = b"nosuc"
    source.write_bytes(bytes(damaged))
    with pytest.raises(EngineError, match="nosuc"):
        quantize_gguf(source, target, "q8_0", force=True)
    assert target.read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "out.gguf"]


def abort(pipe: Connection, source: str, target: str, *rest: object) -> None:
    """What native code does at its worst, in the middle of its work."""
    Path(target).write_bytes(b"half")
    os.abort()


def test_an_abort_is_told_and_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_quantize, "_child", abort)
    with pytest.raises(EngineError, match="ended with code"):
        quantize_gguf(source, tmp_path / "out.gguf", "q8_0", threads=1)
    assert not list(tmp_path.iterdir()) and not multiprocessing.active_children()


def test_an_interrupt_stops_the_quantizer_and_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize_gguf(source, tmp_path / "out.gguf", "q8_0", threads=1, progress=interrupt)
    assert not list(tmp_path.iterdir()) and not multiprocessing.active_children()


def test_the_type_in_a_name_is_replaced(source: Path) -> None:
    assert default_output(source, "q4_k_m") == source.with_name("tiny-Q4_K_M.gguf")
