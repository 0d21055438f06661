"""What an ONNX folder says of itself, and what is wrong with it, without an engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

from cultev.backend.onnx_folder import read_folder  # noqa: E402
from cultev.backend.onnx_proto import read_graph  # noqa: E402
from cultev.errors import ModelDamaged, ModelNotFound, ModelUnsupported, NotAModel  # noqa: E402
from tests.backend.onnx_models import Spec, make_folder  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_folder(tmp_path / "model")


def test_what_is_read(folder: Path) -> None:
    found = read_folder(folder)
    assert found.graph == folder / "model.onnx" and found.external == ()
    assert (found.architecture, found.n_ctx, found.n_vocab, found.n_layers) == ("tiny", 256, 48, 2)
    assert (found.n_heads, found.n_kv_heads, found.head_dim) == (4, 2, 8)
    assert (found.bos, found.eos, found.add_bos, found.template) == ("<s>", "</s>", None, "")
    assert found.n_bytes == (folder / "model.onnx").stat().st_size
    assert not found.reference and not found.has_window


def test_parameters_are_counted(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    floats = [onnx.numpy_helper.to_array(i).size for i in model.graph.initializer if i.data_type == 1 and i.dims]
    facts = read_folder(folder).facts
    assert facts.n_params == sum(floats) and facts.quantization == "fp32"
    assert "MatMul" in facts.operators


def test_external_weights(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m", external=True)
    found = read_folder(path)
    assert found.external == (path / "model.onnx.data",)
    assert found.n_bytes > (path / "model.onnx.data").stat().st_size
    before = found.sha256
    data = bytearray((path / "model.onnx.data").read_bytes())
    data[0] ^= 1
    (path / "model.onnx.data").write_bytes(data)
    assert read_folder(path).sha256 != before
    (path / "model.onnx.data").unlink()
    with pytest.raises(ModelDamaged, match="data is missing"):
        read_folder(path)


def test_the_hash_covers_what_decides_answers(folder: Path, tmp_path: Path) -> None:
    before = read_folder(folder).sha256
    moved = folder.rename(tmp_path / "elsewhere")
    assert read_folder(moved).sha256 == before
    (moved / "README.md").write_text("hello")
    assert read_folder(moved).sha256 == before
    hashes = {before}
    for name, text in [("chat_template.jinja", "x"), ("tokenizer_config.json", "{}"), ("tokenizer.json", "{}")]:
        (moved / name).write_text(text)
        hashes.add(read_folder(moved).sha256)
    assert len(hashes) == 4


@pytest.mark.parametrize("value", ["T", [{"name": "tool", "template": "U"}, {"name": "default", "template": "T"}]])
def test_templates_in_the_tokenizers_settings(folder: Path, value: object) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    assert read_folder(folder).template == "T"
    (folder / "chat_template.jinja").write_text("own file first")
    assert read_folder(folder).template == "own file first"


def test_the_order_of_preference(folder: Path) -> None:
    graph = (folder / "model.onnx").rename(folder / "mine.onnx")
    assert read_folder(folder).graph.name == "mine.onnx"
    for name in ("onnx/model.onnx", "model_quantized.onnx", "decoder_model_merged.onnx", "model.onnx"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(graph.read_bytes())
        assert read_folder(folder).graph == folder / name
    assert read_folder(graph).graph == graph
    assert read_folder(folder / "onnx" / "model.onnx").tokenizer == folder / "tokenizer.json"


def test_several_graphs_and_none(folder: Path) -> None:
    graph = (folder / "model.onnx").rename(folder / "a.onnx")
    (folder / "b.onnx").write_bytes(graph.read_bytes())
    with pytest.raises(NotAModel, match=r"a\.onnx, b\.onnx") as caught:
        read_folder(folder)
    assert "a.onnx" in caught.value.next_step
    graph.unlink()
    (folder / "b.onnx").unlink()
    with pytest.raises(NotAModel, match="holds no"):
        read_folder(folder)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        read_folder(tmp_path / "none")
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(NotAModel):
        read_folder(tmp_path / "text.txt")


@pytest.mark.parametrize("name", ["tokenizer.json", "config.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelDamaged, match=name) as caught:
        read_folder(folder)
    assert name in caught.value.next_step


@pytest.mark.parametrize("text", ["{", "[1]", "\udcff"])
def test_bad_json(folder: Path, text: str) -> None:
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ModelDamaged, match=r"config\.json"):
        read_folder(folder)


def test_a_template_in_another_encoding(folder: Path) -> None:
    (folder / "chat_template.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelDamaged, match="UTF-8"):
        read_folder(folder)


def test_genai_settings_stand_in_for_a_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    decoder = {"head_size": 8, "num_key_value_heads": 2, "num_attention_heads": 4, "num_hidden_layers": 2}
    model = {"type": "phi3", "context_length": 512, "vocab_size": 48, "bos_token_id": 1, "decoder": decoder}
    (folder / "genai_config.json").write_text(json.dumps({"model": model}))
    found = read_folder(folder)
    assert (found.architecture, found.n_ctx, found.n_vocab, found.head_dim) == ("phi3", 512, 48, 8)


@pytest.mark.parametrize(
    ("config", "windowed"),
    [
        ({"sliding_window": 512}, True),
        ({"sliding_window": 512, "use_sliding_window": False}, False),
        ({"layer_types": ["full_attention", "sliding_attention"]}, True),
        ({"layer_types": ["full_attention"]}, False),
        ({"layer_types": ["full_attention"], "sliding_window": 512}, False),
        ({"text_config": {"sliding_window": 512}}, True),
        ({"text_config": {"sliding_window": 512, "use_sliding_window": False}}, False),
        ({"text_config": {"layer_types": ["full_attention", "sliding_attention"]}}, True),
        ({"attention_types": [[["global", "local"], 6]], "window_size": 256}, True),  # GPT-Neo
        ({"attention_layers": ["global", "global"], "window_size": 256}, False),
        ({"attention_window_size": 2048}, True),
        ({"sliding_window": [16, 0]}, True),
    ],
)
def test_sliding_windows(tmp_path: Path, config: dict[str, object], windowed: bool) -> None:
    assert read_folder(make_folder(tmp_path / "m", Spec(config=config))).has_window is windowed


def test_the_narrowest_window_counts(tmp_path: Path) -> None:
    config = {"sliding_window": 4096, "text_config": {"sliding_window": [64, 16, None]}}
    assert read_folder(make_folder(tmp_path / "m", Spec(config=config))).window == 16


@pytest.mark.parametrize("window", [16, {"window_size": 16, "layers": [0]}])
def test_windows_of_genai(tmp_path: Path, window: object) -> None:
    path = make_folder(tmp_path / "m")
    (path / "config.json").unlink()
    model = {"type": "phi3", "context_length": 256, "vocab_size": 48, "decoder": {"sliding_window": window}}
    (path / "genai_config.json").write_text(json.dumps({"model": model}))
    found = read_folder(path)
    assert found.has_window and found.window == 16


@pytest.mark.parametrize("part", [0, 0.3, 0.7, 0.999])
def test_a_graph_cut_short(folder: Path, part: float) -> None:
    graph = folder / "model.onnx"
    data = graph.read_bytes()
    graph.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ModelDamaged, match="no sound ONNX graph"):
        read_folder(folder)


@pytest.mark.parametrize("data", [b"GGUF" + b"\x03" * 60, b"version https\n" * 9, b"\xff" * 40, b"\x08\x08"])
def test_other_bytes(folder: Path, data: bytes) -> None:
    (folder / "model.onnx").write_bytes(data)
    with pytest.raises(ModelDamaged):
        read_folder(folder)


def test_packed_weights_count_unpacked(tmp_path: Path) -> None:
    helper, proto = onnx.helper, onnx.TensorProto
    packed = helper.make_tensor("w", proto.UINT8, [64, 2, 16], bytes(64 * 2 * 16), raw=True)
    scales = helper.make_tensor("s", proto.FLOAT, [128], bytes(512), raw=True)
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=64, N=64, bits=4)
    graph = helper.make_graph([node], "g", [], [], [packed, scales])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    facts = read_graph(tmp_path / "m.onnx")
    assert (facts.n_params, facts.quantization) == (64 * 64, "int4")
    assert (facts.blocks, facts.halves) == (128, 0)


def test_float16_that_is_only_looked_up_is_not_widened(tmp_path: Path) -> None:
    helper, half = onnx.helper, onnx.TensorProto.FLOAT16
    table = helper.make_tensor("table", half, [32, 8], bytes(512), raw=True)
    matrix = helper.make_tensor("matrix", half, [8, 4], bytes(64), raw=True)
    nodes = [helper.make_node("Gather", ["table", "ids"], ["x"]), helper.make_node("MatMul", ["x", "matrix"], ["y"])]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", [], [], [table, matrix])), tmp_path / "m.onnx")
    facts = read_graph(tmp_path / "m.onnx")
    assert (facts.halves, facts.blocks, facts.quantization) == (8 * 4, 0, "fp16")


def test_transformers_js_folders(folder: Path) -> None:
    """Graphs lie in a folder of their own, one per quantization: a documented order chooses, a path overrules it."""
    inner = folder / "onnx"
    inner.mkdir()
    graph = (folder / "model.onnx").rename(inner / "model_q4f16.onnx")
    assert read_folder(folder).graph == graph
    for name in ("model_fp16", "model_q4f16", "model_q4", "model_int8", "model_quantized", "model"):
        (inner / f"{name}.onnx").write_bytes(graph.read_bytes())
    assert read_folder(folder).graph.name == "model.onnx"
    for name in ("model", "model_quantized", "model_int8"):
        (inner / f"{name}.onnx").unlink()
    assert read_folder(folder).graph.name == "model_q4.onnx"
    named = read_folder(inner / "model_fp16.onnx")
    assert named.graph.name == "model_fp16.onnx" and named.tokenizer == folder / "tokenizer.json"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("encoder_model.onnx", "encoder-decoder"),
        ("vision_encoder_q4.onnx", "images"),
        ("onnx/embed_tokens_fp16.onnx", "parts"),
    ],
)
def test_models_in_parts_are_refused_by_name(folder: Path, name: str, what: str) -> None:
    (folder / "onnx").mkdir()
    (folder / name).write_bytes(b"")
    with pytest.raises(ModelUnsupported, match=f"{what}.*{Path(name).stem}"):
        read_folder(folder)


def test_a_decoder_split_in_two(folder: Path) -> None:
    (folder / "decoder_with_past_model.onnx").write_bytes(b"")
    assert read_folder(folder).graph.name == "model.onnx"
    (folder / "model.onnx").rename(folder / "decoder_model.onnx")
    with pytest.raises(ModelUnsupported, match="two graphs"):
        read_folder(folder)


def test_tokens_that_end_a_turn(folder: Path) -> None:
    assert read_folder(folder).ends == ()
    before = read_folder(folder).sha256
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 7]}))
    assert read_folder(folder).ends == (3, 7) and read_folder(folder).sha256 != before
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "eos_token_id": 5}))
    assert read_folder(folder).ends == (3, 5, 7)
    (folder / "genai_config.json").write_text(json.dumps({"model": {"eos_token_id": [9]}}))
    assert read_folder(folder).ends == (3, 5, 7, 9)
