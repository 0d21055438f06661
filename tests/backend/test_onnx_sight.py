"""Graphs edited so that a row may branch: neutral until asked, right when asked, left alone where it can't be told."""

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

from cultev.backend.onnx import OnnxBackend
from cultev.backend.onnx_binding import Binding
from cultev.backend.onnx_edit import edited, read_bytes
from cultev.backend.onnx_graph import read_ports
from cultev.backend.onnx_head import find_head
from cultev.backend.onnx_sight import BIAS, PLACES, SEEN, find_sight
from cultev.backend.types import EngineSettings
from tests.backend.onnx_models import Spec, make_embedder, make_folder, make_graph
from tests.backend.test_onnx import answers, assert_close, expected, questions
from tests.backend.test_onnx_generate import COUNTS, FUSED

PLAIN = {
    "grouped": Spec(),
    "half": Spec(half=True),
    "keep-input": Spec(keep_input=True),
    "merged": Spec(branch_input=True),
    "one-row": Spec(one_row=True),
    "stacked": Spec(stacked=True, past_name="past_{}", present_name="present_{}"),
}
WITH_BIAS = {"fused": FUSED, "counts": COUNTS}
SPECS = PLAIN | WITH_BIAS
BRANCHES = "branches in one row"


def opened(source: Any, spec: Spec) -> Binding:
    import onnxruntime

    session = onnxruntime.InferenceSession(source if isinstance(source, bytes) else str(source))
    return Binding(session, read_ports(session.get_inputs(), session.get_outputs(), spec.kv_heads, spec.head_dim))


def with_sight(path: Path, spec: Spec) -> Binding:
    with edited(path / "model.onnx", [find_head, find_sight], in_memory=False) as source:
        assert source is not None
        return opened(source, spec)


def run(binding: Binding, tokens: list[int], past: list[Any], positions: list[int], seen: Any = None) -> Any:
    slots = past[0].shape()[-2]
    reads = [(0, i) for i in range(len(tokens))]
    mask = np.ones((1, slots + len(tokens)), np.bool_)
    return binding.run(
        np.array([tokens]), np.array([positions]), mask, past, reads=reads, seen=seen, presents=True
    )  # fmt: skip


@pytest.mark.parametrize("name", SPECS)
def test_neutral_until_asked(tmp_path: Path, name: str) -> None:
    path = make_folder(tmp_path / "m", SPECS[name])
    plain, sighted = opened(path / "model.onnx", SPECS[name]), with_sight(path, SPECS[name])
    assert sighted.ports.sight == (BIAS if name in WITH_BIAS else SEEN) and not plain.ports.sight
    tokens = [5, 9, 2, 30, 7]
    for binding in (plain, sighted):
        first = run(binding, tokens, binding.empty_past(1), [0, 1, 2, 3, 4])
        then = run(binding, [8, 1], first.presents, [5, 6])
        found = np.concatenate([first.logits, then.logits])
        if binding is plain:
            wanted = found
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("name", SPECS)
def test_a_token_sees_what_it_is_told(tmp_path: Path, name: str) -> None:
    """Two branches after a stem and a past, in one row, each as if the other weren't there."""
    path = make_folder(tmp_path / "m", SPECS[name])
    binding = with_sight(path, SPECS[name])
    past, stem, left, right = [5, 9, 2], [30, 7], [4, 11, 8], [21, 3]
    held = run(binding, past, binding.empty_past(1), [0, 1, 2]).presents
    before = [-1, 0, 1, 2, 3, 1, 5]
    seen = np.zeros((1, 7, 7), np.bool_)
    for i, b in enumerate(before):
        seen[0, i] = seen[0, b] if b >= 0 else False
        seen[0, i, i] = True
    got = run(binding, stem + left + right, held, [3, 4, 5, 6, 7, 5, 6], seen).logits
    one = run(binding, stem + left, held, [3, 4, 5, 6, 7]).logits
    other = run(binding, stem + right, held, [3, 4, 5, 6]).logits
    within = 0.05 if SPECS[name].half else 1e-4
    np.testing.assert_allclose(got[:5], one, atol=within)
    np.testing.assert_allclose(got[5:], other[2:], atol=within)
    assert np.abs(got[5:] - run(binding, stem + left + right, held, list(range(3, 10))).logits[5:]).max() > 0.1


@pytest.mark.parametrize("name", SPECS)
def test_the_engine_uses_it_and_is_right(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_folder(tmp_path / "m", SPECS[name])
    backend = OnnxBackend(path)
    assert BRANCHES in backend.info.extra["reuse"]
    asked: list[bool] = []
    plain = Binding.run

    def noted(self: Binding, *args: Any, **more: Any) -> Any:
        asked.append(more.get("seen") is not None)
        return plain(self, *args, **more)

    monkeypatch.setattr(Binding, "run", noted)
    found = answers(backend, questions(n=6))
    assert any(asked), "rows branch"
    assert_close(found, expected(path, questions(n=6)), within=0.05 if SPECS[name].half else 1e-4)


def alone(spec: Spec, folder: Path) -> OnnxBackend:
    """An engine that doesn't make rows branch."""
    backend = OnnxBackend(make_folder(folder, spec))
    assert BRANCHES not in backend.info.extra["reuse"]
    assert_close(answers(backend, questions(n=4)), expected(folder, questions(n=4)))
    return backend


@pytest.mark.parametrize(
    "spec",
    [
        Spec(positions=False),
        Spec(ignores_mask=True),
        Spec(cache=False),
        Spec(last_only=True),
        Spec(config={"sliding_window": 16}),
    ],
    ids=["counts positions itself", "no mask", "no cache", "last position only", "window"],
)
def test_other_graphs_take_chains(tmp_path: Path, spec: Spec) -> None:
    alone(spec, tmp_path / "m")


def test_a_window_wider_than_the_context_hides_nothing(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m", Spec(config={"sliding_window": 16}))
    assert BRANCHES in OnnxBackend(path, EngineSettings(n_ctx=16)).info.extra["reuse"]


def test_a_graph_that_takes_it_and_ignores_it(tmp_path: Path) -> None:
    """What is loaded is tried out: here the mask is joined, and what comes of it is thrown away."""
    path = make_folder(tmp_path / "m", Spec())
    model = onnx.load(path / "model.onnx")
    nodes = model.graph.node
    bias, causal = (next(n.output[0] for n in nodes if n.op_type == kind) for kind in ("Where", "LessOrEqual"))
    for name, value in (("none", 0), ("low", -1e9)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.float32), name))
    for layer, adds in enumerate([n for n in nodes if bias in n.input]):
        own, muted, joined = (f"{word}_{layer}" for word in ("own", "muted", "joined"))
        at = list(nodes).index(adds)
        nodes.insert(at, onnx.helper.make_node("Where", [causal, "none", "low"], [own]))
        nodes.insert(at + 1, onnx.helper.make_node("Mul", [bias, "none"], [muted]))
        nodes.insert(at + 2, onnx.helper.make_node("Add", [own, muted], [joined]))
        nodes[at + 3].input[list(nodes[at + 3].input).index(bias)] = joined
    onnx.save(model, path / "model.onnx")
    backend = OnnxBackend(path)
    assert backend._binding.ports.sight == SEEN and BRANCHES not in backend.info.extra["reuse"]
    assert_close(answers(backend, questions(n=4)), expected(path, questions(n=4)))


def test_the_operators_positions_at_first_are_its_own(tmp_path: Path) -> None:
    """GroupQueryAttention counts positions itself where there is no past: such rows must stay chains."""
    fused = OnnxBackend(make_folder(tmp_path / "fused", FUSED))._decoder()
    plain = OnnxBackend(make_folder(tmp_path / "plain", Spec()))._decoder()
    assert not fused.shape.first_branches and plain.shape.first_branches


def untouched() -> Iterator[tuple[str, Any]]:
    def changed(spec: Spec, attribute: str = "", value: int = 0, **inputs: str) -> Any:
        model = make_graph(spec)
        for node in model.graph.node:
            if node.op_type == "GroupQueryAttention":
                if attribute:
                    node.attribute.append(onnx.helper.make_attribute(attribute, value))
                for name in inputs.values():
                    node.input.extend(["", name])
        return model

    yield "a window of its own", changed(FUSED, "local_window_size", 16)
    yield "a bias of its own", changed(FUSED, bias="some_bias")
    yield "no cache", make_graph(Spec(cache=False))
    yield "no mask", make_graph(Spec(ignores_mask=True))
    model = make_graph(Spec())
    where = next(n for n in model.graph.node if n.op_type == "Where")
    where.input[0] = "attention_mask"  # what layers share are whole numbers
    where.op_type = "Identity"
    del where.input[1:]
    yield "a mask of whole numbers", model


@pytest.mark.parametrize("name", [name for name, _ in untouched()])
def test_what_is_not_understood_stays(name: str) -> None:
    found = read_bytes(dict(untouched())[name].SerializeToString())
    assert found is not None
    assert find_sight(found) is None


def test_embedders_stay(tmp_path: Path) -> None:
    found = read_bytes((make_embedder(tmp_path / "e") / "model.onnx").read_bytes())
    assert found is not None and find_sight(found) is None


def test_positions_are_added_where_the_operator_turns_keys(tmp_path: Path) -> None:
    for turns in (1, 0):
        model = make_graph(FUSED)
        for node in model.graph.node:
            for attribute in node.attribute:
                if attribute.name == "do_rotary":
                    attribute.i = turns
        found = read_bytes(model.SerializeToString())
        assert found is not None
        edit = find_sight(found)
        assert edit is not None and len(edit.inputs) == 1 + turns
        assert (PLACES.encode() in edit.inputs[-1]) == bool(turns)
