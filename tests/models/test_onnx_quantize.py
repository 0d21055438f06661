"""ONNX folders made smaller: whole, loadable, near their source, and independent of what is in a batch."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx_ir")
pytest.importorskip("tokenizers")

from cultev.backend.onnx_folder import read_folder  # noqa: E402
from cultev.errors import MissingExtra, ModelUnsupported, UsageError  # noqa: E402
from cultev.models import onnx_quantize  # noqa: E402
from cultev.models.onnx_quantize import quantize_onnx  # noqa: E402
from cultev.models.quantize import default_output, quantize  # noqa: E402
from tests.backend.onnx_models import Spec, make_folder  # noqa: E402
from tests.models.scores import scores  # noqa: E402

WIDE = Spec(dim=64, vocab=600, heads=8, kv_heads=4, layers=1)
"""Wide enough that the embedding counts as one."""


def operators(folder: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(folder / "model.onnx")).graph.node]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_folder(tmp_path_factory.mktemp("onnx") / "tiny", WIDE)
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}", encoding="utf-8")
    (folder / "LICENSE").write_text("free", encoding="utf-8")
    (folder / "other.onnx").write_bytes(b"")
    return folder


def test_eight_bits_are_near_and_four_bits_less_near(source: Path, tmp_path: Path) -> None:
    original = scores(source, 600)
    off = {}
    for to in ("int8", "INT4"):
        target = tmp_path / to
        quantize_onnx(source, target, to)
        found = read_folder(target)
        assert found.template == "{{ messages[0].content }}"
        assert sorted(path.name for path in target.iterdir()) == [
            "LICENSE", "chat_template.jinja", "config.json", "model.onnx", "tokenizer.json", "tokenizer_config.json",
        ]  # fmt: skip
        assert found.n_bytes < read_folder(source).n_bytes * 0.5
        off[to] = float(np.abs(scores(target, 600) - original).mean())
    assert 0 < off["int8"] < 0.3
    assert off["int8"] < off["INT4"] < 5.0  # of log-probabilities of about -20


def test_weights_only(source: Path, tmp_path: Path) -> None:
    quantize_onnx(source, tmp_path / "q", "int8")
    found = operators(tmp_path / "q")
    assert found.count("MatMulNBits") == operators(source).count("MatMul") - 2  # attention's two have no weights
    assert not {"DynamicQuantizeLinear", "MatMulInteger"} & set(found)
    kinds = {t.name: t.data_type for t in onnx.load(str(tmp_path / "q" / "model.onnx")).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds.values()  # the embedding
    assert read_folder(tmp_path / "q").quantization == "int8"


def test_a_tied_matrix_is_quantized_too(tmp_path: Path) -> None:
    from onnx import helper, numpy_helper

    folder = make_folder(tmp_path / "tied", WIDE)
    model = onnx.load(str(folder / "model.onnx"))
    last = next(node for node in reversed(model.graph.node) if node.op_type == "MatMul")
    tensor = next(t for t in model.graph.initializer if t.name == last.input[1])
    values = np.ascontiguousarray(numpy_helper.to_array(tensor).T)
    model.graph.initializer.remove(tensor)
    model.graph.initializer.append(numpy_helper.from_array(values, "stored"))
    model.graph.node.insert(0, helper.make_node("Transpose", ["stored"], [last.input[1]], perm=[1, 0]))
    onnx.save_model(model, str(folder / "model.onnx"))
    quantize_onnx(folder, tmp_path / "q", "int8")
    found = operators(tmp_path / "q")
    assert "MatMul" in operators(folder) and found.count("MatMul") == 2
    assert np.abs(scores(tmp_path / "q", 600) - scores(folder, 600)).mean() < 0.3


def test_half_precision_stays_half(tmp_path: Path) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    folder = make_folder(tmp_path / "half", Spec(dim=64, vocab=600, heads=8, kv_heads=4, layers=1, half=True))
    model = convert_float_to_float16(onnx.load(str(folder / "model.onnx")), keep_io_types=False)
    onnx.save_model(model, str(folder / "model.onnx"))
    quantize_onnx(folder, tmp_path / "q", "int8")
    assert "MatMulNBits" in operators(tmp_path / "q")
    assert np.abs(scores(tmp_path / "q", 600) - scores(folder, 600)).mean() < 0.5


def test_large_weights_go_beside_the_graph(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantize_onnx(source, tmp_path / "inline", "int4", block_size=16)
    monkeypatch.setattr(onnx_quantize, "INLINE_BYTES", 1000)
    quantize_onnx(source, tmp_path / "beside", "int4", block_size=16)
    found = read_folder(tmp_path / "beside")
    assert [file.name for file in found.external] == ["model.onnx.data"]
    assert found.external[0].stat().st_mode == found.graph.stat().st_mode
    assert np.array_equal(scores(tmp_path / "beside", 600), scores(tmp_path / "inline", 600))


def test_weights_beside_the_source_graph_are_read(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "m", WIDE)
    model = onnx.load(str(folder / "model.onnx"))
    onnx.save_model(model, str(folder / "model.onnx"), save_as_external_data=True, location="w.data")
    assert read_folder(folder).external
    quantize_onnx(folder, tmp_path / "q", "int8")
    assert read_folder(tmp_path / "q").external == ()
    assert not list((tmp_path / "q").glob("*.data"))
    assert np.abs(scores(tmp_path / "q", 600) - scores(folder, 600)).mean() < 0.3


def test_genai_settings_name_the_new_graph(source: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(source, tmp_path / "m"))
    (folder / "genai_config.json").write_text('{"model": {"decoder": {"filename": "decoder.onnx"}}}', encoding="utf-8")
    quantize_onnx(folder, tmp_path / "q", "int8")
    told = json.loads((tmp_path / "q" / "genai_config.json").read_text(encoding="utf-8"))
    assert told["model"]["decoder"]["filename"] == "model.onnx"


def test_refusals(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="q4_k_m"):
        quantize_onnx(source, tmp_path / "q", "q4_k_m")
    with pytest.raises(UsageError, match="block of 20"):
        quantize_onnx(source, tmp_path / "q", "int4", block_size=20)
    with pytest.raises(UsageError, match="own source"):
        quantize_onnx(source, source, "int8", force=True)
    with pytest.raises(UsageError, match="twice"):
        quantize(source, tmp_path / "q", "int8", allow_requantize=True)
    quantize_onnx(source, tmp_path / "q", "int8")
    with pytest.raises(UsageError, match="exists already"):
        quantize_onnx(source, tmp_path / "q", "int8")
    with pytest.raises(ModelUnsupported, match="quantized already"):
        quantize_onnx(tmp_path / "q", tmp_path / "r", "int4")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        quantize_onnx(source, tmp_path / "r", "int8")
    assert "cultev[quantize]" in caught.value.next_step
    assert sorted(path.name for path in tmp_path.iterdir()) == ["q"]


def test_a_failure_keeps_the_folder_that_was_there(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "q"
    target.mkdir()
    (target / "mine").write_text("x")

    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(onnx_quantize, "quantize_graph", fail)
    with pytest.raises(KeyboardInterrupt):
        quantize_onnx(source, target, "int8", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["q"] and (target / "mine").is_file()


def test_logging_is_left_as_it_was(source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = list(root.handlers), root.level, root.manager.disable
    quantize_onnx(source, tmp_path / "q", "int8")
    assert (list(root.handlers), root.level, root.manager.disable) == before
    assert capfd.readouterr() == ("", "")


def test_default_name(source: Path) -> None:
    assert default_output(source, "INT8") == source.resolve().with_name("tiny-int8")
