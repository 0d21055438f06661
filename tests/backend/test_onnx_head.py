"""Graphs edited so that they compute logits only where they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("tokenizers")

import onnx

from cultev.backend.onnx_edit import Edit, Finder, edited, find_edits, read_bytes
from cultev.backend.onnx_head import READS, find_head
from tests.backend.onnx_models import Spec, make_graph
from tests.backend.test_onnx_generate import COUNTS, FUSED

SPECS = {
    "plain": Spec(),
    "half": Spec(half=True),
    "keep": Spec(keep_input=True),
    "one row": Spec(one_row=True),
    "no cache": Spec(cache=False),
    "fused": FUSED,
    "counts": COUNTS,
}
TOKENS = np.array([[5, 9, 2, 30, 7]])


def session(source: Path | bytes, folder: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if isinstance(source, bytes):
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return onnxruntime.InferenceSession(source if isinstance(source, bytes) else str(source), options)


def logits(session: Any, **more: Any) -> Any:
    feeds: dict[str, Any] = {
        "input_ids": TOKENS,
        "attention_mask": np.ones_like(TOKENS),
        "position_ids": np.arange(TOKENS.size)[None],
        "num_logits_to_keep": np.array(0),
        "seqlens_k": np.array([TOKENS.size - 1], np.int32),
        "total_sequence_length": np.array(TOKENS.size, np.int32),
        **more,
    }
    for port in session.get_inputs():
        if port.name.startswith("past"):
            kind = np.float16 if "16" in port.type else np.float32
            feeds[port.name] = np.zeros((1, port.shape[1], 0, port.shape[3]), kind)
    names = {port.name for port in session.get_inputs()}
    return session.run(["logits"], {name: value for name, value in feeds.items() if name in names})[0]


def found_edits(graph: Path, *finders: Finder) -> list[Edit]:
    """What all of them found."""
    found = find_edits(graph, finders)
    assert None not in found
    return [edit for edit in found if edit]


@pytest.mark.parametrize("in_memory", [False, True])
@pytest.mark.parametrize("name", SPECS)
def test_only_what_is_read_comes(tmp_path: Path, name: str, in_memory: bool) -> None:
    graph = tmp_path / "model.onnx"
    model = make_graph(SPECS[name])
    onnx.save_model(model, graph, save_as_external_data=in_memory, location="weights", size_threshold=500)
    before = graph.read_bytes()
    whole = logits(session(graph, graph.parent))
    with edited(graph, found_edits(graph, find_head), in_memory=in_memory) as source:
        assert isinstance(source, bytes if in_memory else Path)
        found = logits(session(source, graph.parent), **{READS: np.array([[(0, 4), (0, 1), (0, 1)]])})
    assert found.shape == (1, 3, whole.shape[-1]) and found.dtype == whole.dtype
    np.testing.assert_allclose(found[0], whole[0, [4, 1, 1]], rtol=1e-5, atol=1e-5)
    assert graph.read_bytes() == before, "the file stays as it is"
    assert in_memory or not Path(str(source)).exists()


def capped(model: Any) -> Any:
    """The model with its logits capped as Gemma's: 30 tanh(x / 30)."""
    graph = model.graph
    cap = onnx.numpy_helper.from_array(np.array(30, np.float32), "cap")
    graph.initializer.append(cap)
    last = graph.node[-1]
    last.output[0] = "uncapped"
    for kind, inputs, output in (
        ("Div", ["uncapped", "cap"], "share"), ("Tanh", ["share"], "bent"), ("Mul", ["cap", "bent"], "logits")
    ):  # fmt: skip
        graph.node.append(onnx.helper.make_node(kind, inputs, [output]))
    return model


def test_logits_that_are_capped(tmp_path: Path) -> None:
    graph = tmp_path / "model.onnx"
    onnx.save(capped(make_graph(Spec())), graph)
    whole = logits(session(graph, tmp_path))
    with edited(graph, found_edits(graph, find_head), in_memory=True) as source:
        assert isinstance(source, bytes)
        found = logits(session(source, tmp_path), **{READS: np.array([[(0, 3)]])})
    np.testing.assert_allclose(found[0, 0], whole[0, 3], rtol=1e-5, atol=1e-5)


def others() -> Iterator[tuple[str, Any]]:
    model = make_graph(Spec())
    model.graph.output[0].name = model.graph.node[-1].output[0] = "scores"
    yield "no logits", model
    model = make_graph(Spec(branch_input=True))
    yield "logits that depend on more than one product", model
    model = make_graph(Spec())
    product = next(n for n in model.graph.node if n.output[0] == model.graph.node[-1].input[0])
    product.op_type = "Einsum"
    yield "another product", model


@pytest.mark.parametrize("name", [name for name, _ in others()])
def test_what_is_not_understood_stays(tmp_path: Path, name: str) -> None:
    graph = tmp_path / "model.onnx"
    graph.write_bytes(dict(others())[name].SerializeToString())
    assert find_edits(graph, [find_head]) == [None]


def test_no_graph_at_all() -> None:
    assert read_bytes(onnx.ModelProto().SerializeToString()) is None
    with pytest.raises(ValueError):
        read_bytes(make_graph(Spec()).SerializeToString()[:-40])


def test_lengths_written_in_more_bytes_than_they_need_are_left_alone(tmp_path: Path) -> None:
    """Where a node begins can't be told from where what it holds does."""
    model = make_graph(Spec())
    whole = model.graph.SerializeToString()
    graph = tmp_path / "model.onnx"
    length = bytes([len(whole) >> shift & 127 | 128 for shift in (0, 7, 14, 21)]) + b"\0"
    del model.graph.node[:]
    model.ClearField("graph")
    graph.write_bytes(model.SerializeToString() + b"\x3a" + length + whole)
    onnx.load(graph)
    assert read_bytes(graph.read_bytes()) is None and find_edits(graph, [find_head]) == [None]


def test_weights_made_of_weights_a_thousand_times(tmp_path: Path) -> None:
    """Deep graphs are walked without recursion."""
    model = make_graph(Spec())
    product = next(n for n in model.graph.node if n.output[0] == model.graph.node[-1].input[0])
    name = product.input[1]
    for i in range(2_000):
        model.graph.node.insert(i, onnx.helper.make_node("Identity", [name], [f"again_{i}"]))
        name = f"again_{i}"
    product.input[1] = name
    found = read_bytes(model.SerializeToString())
    assert found is not None and find_head(found) is not None
