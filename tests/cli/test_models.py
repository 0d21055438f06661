"""``cultev models quantize``, ``export`` and ``suggest`` as a user calls them."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.cli.command import cultev, fails

pytest.importorskip("onnx")
pytest.importorskip("gguf")

from tests.backend.gguf_models import write_tiny_gguf
from tests.backend.onnx_models import Spec, make_folder


def test_quantize_gguf(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    write_tiny_gguf(tmp_path / "tiny-f16.gguf")
    done = cultev("models", "quantize", "tiny-f16.gguf", "--to", "q8_0", "--json", cwd=tmp_path)
    assert done.code == 0 and done.err == ""
    facts = json.loads(done.out)
    assert Path(facts["written"]).name == "tiny-Q8_0.gguf" and (tmp_path / "tiny-Q8_0.gguf").is_file()
    assert facts["quantization"] == "Q8_0" and facts["size_after_mb"] <= facts["size_before_mb"]
    again = cultev("models", "quantize", "tiny-f16.gguf", "--to", "q8_0", cwd=tmp_path)
    fails(again, "exists already", "--force", code=2)
    fails(cultev("models", "quantize", "tiny-Q8_0.gguf", "--to", "q4_0", cwd=tmp_path), "second rounding")
    fails(cultev("models", "quantize", "tiny-f16.gguf", "--to", "q99", cwd=tmp_path), "no type 'q99'", code=2)
    fails(cultev("models", "quantize", "none.gguf", "--to", "q8_0", cwd=tmp_path), "no model at none.gguf")


def test_quantize_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnx_ir")
    make_folder(tmp_path / "tiny", Spec(dim=64, vocab=600, heads=8, kv_heads=4, layers=1))
    done = cultev("models", "quantize", "tiny", "--to", "int4", "-o", "small", "--block-size", "16", cwd=tmp_path)
    assert done.code == 0 and done.err == "", done.err
    assert "size before mb" in done.out and "ONNX" in done.out and (tmp_path / "small" / "model.onnx").is_file()
    fails(cultev("models", "quantize", "tiny", "--to", "q4_k_m", cwd=tmp_path), "int8 or int4", code=2)


def test_export_says_where_to_get_a_model(tmp_path: Path) -> None:
    fails(cultev("models", "export", "owner/name", cwd=tmp_path), "never downloads", "cultev models pull owner/name")
    (tmp_path / "empty").mkdir()
    fails(cultev("models", "export", "empty", cwd=tmp_path), "no Hugging Face model")


def test_suggest(tmp_path: Path) -> None:
    done = cultev("models", "suggest", "--memory", "3000", cwd=tmp_path)
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) <= 80
    assert "apache-2.0" in done.out and "3,000 MB" in done.err
    rows = json.loads(cultev("models", "suggest", "--memory", "1e6", "--json", cwd=tmp_path).out)
    assert len(rows) >= 25 and all(row["license_source"].startswith("https://") for row in rows)
    gemma = next(row for row in rows if row["name"] == "gemma-2-2b-it")
    assert gemma["gated"] is True and gemma["license"] == "gemma"
    table = list(
        csv.DictReader(io.StringIO(cultev("models", "suggest", "--language", "ja", "--csv", cwd=tmp_path).out))
    )
    assert table and all("ja" in json.loads(row["languages"]) for row in table)
    none = cultev("models", "suggest", "--memory", "1", cwd=tmp_path)
    assert none.code == 0 and "None fits" in none.err
    one = cultev("models", "suggest", "gemma-3-1b", cwd=tmp_path)
    assert "(not verified)" in one.out and "Q4_K_M" in one.out and max(map(len, one.out.splitlines())) <= 80
    fails(cultev("models", "suggest", "--language", "zz", cwd=tmp_path), "the language 'zz'", " ja ", code=2)
    fails(cultev("models", "suggest", "nosuch", cwd=tmp_path), "no model 'nosuch'", code=2)
    fails(cultev("models", "suggest", "--json", "--csv", cwd=tmp_path), "can't go together", code=2)
