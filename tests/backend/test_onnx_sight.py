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
from cultev.backend.onnx_edit import Edit, edited, find_edits, port, read_bytes
from cultev.backend.onnx_graph import read_ports
from cultev.backend.onnx_head import find_head
from cultev.backend.onnx_sight import BIAS, PLACES, SEEN, find_sight
from cultev.backend.onnx_tree import TreeRunner
from cultev.backend.types import EngineSettings
from cultev.errors import EngineError
from cultev.models.onnx_quantize import quantize_onnx
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
    graph = path / "model.onnx"
    found = [edit for edit in find_edits(graph, [find_head, find_sight]) if edit]
    with edited(graph, found, in_memory=False) as source:
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


@pytest.mark.parametrize(
    "spec",
    [
        Spec(positions=False),
        Spec(ignores_mask=True),
        Spec(cache=False),
        Spec(last_only=True),
        Spec(last_only=True, branch_input=True),  # and a product that can't be fed from elsewhere
        Spec(config={"sliding_window": 16}),
    ],
    ids=["counts positions itself", "no mask", "no cache", "last position only", "last and merged", "window"],
)
def test_other_graphs_take_chains(tmp_path: Path, spec: Spec) -> None:
    path = make_folder(tmp_path / "m", spec)
    backend = OnnxBackend(path)
    assert BRANCHES not in backend.info.extra["reuse"]
    assert_close(answers(backend, questions(n=4)), expected(path, questions(n=4)))


def test_a_window_wider_than_the_context_hides_nothing(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m", Spec(config={"sliding_window": 16}))
    assert BRANCHES in OnnxBackend(path, EngineSettings(n_ctx=16)).info.extra["reuse"]


def ignore_sight(path: Path) -> None:
    """Change a folder's graph: what the mask is joined to is thrown away, and layers see all that stands before."""
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


def test_a_graph_that_takes_it_and_ignores_it(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m")
    ignore_sight(path)
    backend = OnnxBackend(path)
    assert backend._binding.ports.sight == SEEN and BRANCHES not in backend.info.extra["reuse"]
    assert_close(answers(backend, questions(n=4)), expected(path, questions(n=4)))
    tight = OnnxBackend(path, EngineSettings(batch=1))  # whose own rows are too short to branch
    assert BRANCHES not in tight.info.extra["reuse"]


def test_a_graph_whose_first_rows_take_it_differently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows without a past are tried out as well."""
    plain = Binding.run

    def first_differs(self: Binding, ids: Any, positions: Any, mask: Any, *rest: Any, **more: Any) -> Any:
        if mask.shape[1] == ids.shape[1]:
            more["seen"] = None
        return plain(self, ids, positions, mask, *rest, **more)

    monkeypatch.setattr(Binding, "run", first_differs)
    assert BRANCHES not in OnnxBackend(make_folder(tmp_path / "m")).info.extra["reuse"]


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


def sight(model: Any) -> Edit | None:
    found = read_bytes(model.SerializeToString())
    assert found is not None
    return find_sight(found)


def joined(model: Any) -> str:
    """The value at which a graph would be edited."""
    edit = sight(model)
    assert edit is not None and len(edit.changes) == 1
    text = edit.changes[0][1]
    nodes = onnx.GraphProto.FromString(text).node
    assert nodes[0].output[0] == nodes[1].input[0] and nodes[1].input[1] == SEEN
    return str(nodes[1].output[0])


def turning(positions: bool, turns: int) -> Any:
    model = make_graph(Spec(fused=True, positions=positions))
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "do_rotary":
                attribute.i = turns
    return model


def test_positions_are_added_where_the_operator_turns_keys() -> None:
    for positions in (True, False):
        edit = sight(turning(positions, 1))
        assert edit is not None and len(edit.inputs) == 2 and PLACES.encode() in edit.inputs[1]
    edit = sight(turning(True, 0))
    assert edit is not None and len(edit.inputs) == 1 and PLACES.encode() not in edit.inputs[0]
    assert sight(turning(False, 0)) is None, "nothing says what keys are turned by"


def test_an_operator_with_positions_of_its_own_stays() -> None:
    model = make_graph(FUSED)
    for node in model.graph.node:
        if node.op_type == "GroupQueryAttention":
            node.input.append("some_positions")
    assert sight(model) is None


def test_the_bias_is_of_the_keys_type(tmp_path: Path) -> None:
    model = make_graph(FUSED)
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("past", "present")):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for kind, made in ((onnx.TensorProto.FLOAT16, model), (onnx.TensorProto.FLOAT, make_graph(FUSED))):
        graph = tmp_path / "model.onnx"
        onnx.save(made, graph)
        (edit,) = find_edits(graph, [find_sight])
        assert edit is not None
        with edited(graph, [edit], in_memory=True) as source:
            assert isinstance(source, bytes)
            found = read_bytes(source)
        assert found is not None and (found.inputs[BIAS], found.inputs[PLACES]) == (kind, onnx.TensorProto.INT64)


def test_the_mask_is_joined_as_near_to_the_layers_as_it_is_shared() -> None:
    model = make_graph(Spec())
    bias = next(n.output[0] for n in model.graph.node if n.op_type == "Where")
    assert joined(model) == bias, "neither the mask that it was made from nor its shape"


def test_masks_of_layers_are_followed_to_what_they_share() -> None:
    model = make_graph(Spec())
    nodes = model.graph.node
    bias = next(n.output[0] for n in nodes if n.op_type == "Where")
    first = next(n for n in nodes if bias in n.input)
    nodes.insert(list(nodes).index(first), onnx.helper.make_node("Identity", [bias], ["first_layers"]))
    first.input[list(first.input).index(bias)] = "first_layers"
    assert joined(model) == bias


def test_masks_made_of_several_are_followed_no_further() -> None:
    """Joined to one of two, the input would be lost in the other."""
    model = make_graph(Spec())
    nodes, words = model.graph.node, iter(("one", "two"))
    where = next(n for n in nodes if n.op_type == "Where")
    seen, bias = where.input[0], where.output[0]
    for add in [n for n in nodes if bias in n.input]:
        word = next(words)
        at = list(nodes).index(add)
        for i, (kind, inputs, output) in enumerate(
            (("Not", [seen], f"not_{word}"), ("Or", [seen, f"not_{word}"], f"either_{word}"),
             ("Where", [f"either_{word}", *where.input[1:]], f"bias_{word}"))
        ):  # fmt: skip
            nodes.insert(at + i, onnx.helper.make_node(kind, inputs, [output]))
        add.input[list(add.input).index(bias)] = f"bias_{word}"
    assert sight(model) is None


@pytest.mark.parametrize("kind", [onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16])
def test_the_type_of_a_mask_is_that_of_its_constants(kind: int) -> None:
    model = make_graph(Spec())
    nodes = model.graph.node
    where = next(n for n in nodes if n.op_type == "Where")
    value = onnx.helper.make_tensor("zero", kind, [], [0.0])
    nodes.insert(0, onnx.helper.make_node("Constant", [], ["zero"], value=value))
    where.input[1] = "zero"
    edit = sight(model)
    assert edit is not None
    assert onnx.GraphProto.FromString(edit.inputs[0]).input[0].type.tensor_type.elem_type == kind


def test_what_is_hidden_weighs_nothing(tmp_path: Path) -> None:
    """However large the scores: the smallest number there is."""
    for spec, kind in ((Spec(), np.float32), (FUSED, np.float32)):
        binding = with_sight(make_folder(tmp_path / str(spec.fused), spec), spec)
        fed = binding._sight(2, 1, np.array([[[True, False], [False, True]]]))
        assert fed.shape == (1, 1, 2, 3) and fed.dtype == kind
        assert set(fed.ravel().tolist()) == {0.0, float(np.finfo(kind).min)} and (fed[..., 0] == 0).all()


def test_a_graph_that_fails_with_it_is_loaded_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Any) -> Edit | None:
        edit = find_sight(graph)
        assert edit is not None
        return Edit(edit.changes, [port(SEEN, onnx.TensorProto.STRING, [1])])

    path = make_folder(tmp_path / "m")
    monkeypatch.setattr("cultev.backend.onnx.find_sight", broken)
    backend = OnnxBackend(path)
    assert backend._binding.ports.reads and not backend._binding.ports.sight
    assert_close(answers(backend, questions(n=4)), expected(path, questions(n=4)))


@pytest.mark.parametrize("batch", [4, 256])
def test_a_small_batch_proves_as_much(tmp_path: Path, batch: int) -> None:
    """What is tried out has room for itself, whatever the engine is to use afterwards."""
    path = make_folder(tmp_path / "m", FUSED)
    backend = OnnxBackend(path, EngineSettings(batch=batch))
    assert BRANCHES in backend.info.extra["reuse"]
    assert_close(answers(backend, questions(n=6)), expected(path, questions(n=6)))


def test_graphs_that_round_are_held_to_it_as_well(tmp_path: Path) -> None:
    """The tolerance for rounding is no excuse for branches that see each other."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    path = make_folder(tmp_path / "m")
    ignore_sight(path)
    quantization.quantize_dynamic(path / "model.onnx", path / "small.onnx")
    (path / "small.onnx").replace(path / "model.onnx")
    backend = OnnxBackend(path)
    assert backend._binding.ports.sight == SEEN and BRANCHES not in backend.info.extra["reuse"]


@pytest.mark.parametrize("off", [0.0, 0.4])
def test_rounding_excuses_no_more_than_rounding_moves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    """A graph whose products round each row by itself, and branches that are a few positions off."""
    pytest.importorskip("onnx_ir")
    quantize_onnx(make_folder(tmp_path / "m", Spec(dim=64)), tmp_path / "q", "int8")
    plain = TreeRunner.compute

    def moved(self: TreeRunner, *args: Any) -> Any:
        return plain(self, *args) + (off if self.branches else 0)

    monkeypatch.setattr(TreeRunner, "compute", moved)
    backend = OnnxBackend(tmp_path / "q")
    assert (BRANCHES in backend.info.extra["reuse"]) == (not off)
    assert float(backend.info.extra["rounding"]) < 0.1


def test_a_graph_that_fails_with_it_after_a_past_is_loaded_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Binding._compute

    def fails(self: Binding, feeds: Any, past: Any, *rest: Any) -> Any:
        if self.ports.sight and past[0].shape()[-2]:
            raise EngineError("no bias after a past")
        return plain(self, feeds, past, *rest)

    monkeypatch.setattr(Binding, "_compute", fails)
    path = make_folder(tmp_path / "m")
    backend = OnnxBackend(path)
    assert not backend._binding.ports.sight and backend._binding.ports.reads
    assert "any length" in backend.info.extra["reuse"]


@pytest.mark.parametrize("kind", ["mask", "logits"])
def test_a_graph_that_goes_round_ends(kind: str) -> None:
    """Damaged, and said so by who loads it."""
    model = make_graph(Spec())
    nodes = model.graph.node
    if kind == "mask":
        bias = next(n.output[0] for n in nodes if n.op_type == "Where")
        nodes.append(onnx.helper.make_node("Identity", [bias], [bias]))
    else:
        nodes[-1].input[0] = "logits"
    found = read_bytes(model.SerializeToString())
    assert found is not None
    find_sight(found)
    find_head(found)


def test_what_is_told_as_noise_is_what_branches_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = TreeRunner.compute

    def moved(self: TreeRunner, *args: Any) -> Any:
        return plain(self, *args) + (5e-4 if self.branches else 0)

    monkeypatch.setattr(TreeRunner, "compute", moved)
    backend = OnnxBackend(make_folder(tmp_path / "m"))
    assert BRANCHES in backend.info.extra["reuse"]
    assert float(backend.info.extra["noise"]) == pytest.approx(5e-4, rel=0.1)


def test_a_mask_that_only_dims_takes_no_gaps(tmp_path: Path) -> None:
    """Gaps of nothing would pass; what stands in them must not matter either."""
    path = make_folder(tmp_path / "m")
    model = onnx.load(path / "model.onnx")
    for weight in model.graph.initializer:
        if list(weight.dims) == [1] and onnx.numpy_helper.to_array(weight) == np.float32(-1e9):
            weight.CopyFrom(onnx.numpy_helper.from_array(np.array([-15], np.float32), weight.name))
    onnx.save(model, path / "model.onnx")
    assert "any length" not in OnnxBackend(path).info.extra["reuse"]
