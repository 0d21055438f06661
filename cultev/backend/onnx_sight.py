"""Lets a row of tokens branch: a new input says which tokens of its row a token sees.

A decoder's own mask lets a token see all that stands before it in its row, so that each branch of a token tree takes a
row of its own, with the keys and values of all that it continues copied before it. Told who sees whom, one row holds a
whole tree. Nothing is taken away from the graph's mask: what it hides stays hidden, and with the input's neutral value
the graph computes what it did before.

Attention by plain operators has one mask for all layers, and the input is joined to it (``SEEN``). onnxruntime's
GroupQueryAttention takes none, yet a bias on its scores (``BIAS``) and, where it turns keys by their position itself,
positions (``PLACES``). Whether a graph takes it as meant is tried out (``onnx_probe``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cultev.backend.onnx_edit import Edit, GraphBytes, Placed, changed, node, port
from cultev.backend.onnx_proto import fields, first_number, first_span

SEEN = "cultev_seen"
"""Whether a token sees a slot, rows (or 1) x 1 x tokens (or 1) x slots (or 1): true or 0 where it does, false or a
large negative number where not."""

BIAS = "cultev_bias"
"""The same as numbers, with all tokens and slots spelt out."""

PLACES = "cultev_places"
"""Each token's position, rows x tokens."""

_OWN = "cultev_own_mask"
_FUSED = "GroupQueryAttention"
_PLACES_AT, _BIAS_AT = 9, 10
"""Where the fused operator takes positions and bias."""

_BOOL, _INT64 = 9, 7
_FLOATS = {1, 10}
"""Element types (``TensorProto.DataType``): float and float16."""

_JOINS = {_BOOL: "And", **dict.fromkeys(_FLOATS, "Add")}
_MASK, _POSITIONS = "attention_mask", "position_ids"
_SIDE = {_MASK, _POSITIONS, "past_sequence_length", "total_sequence_length", "seqlens_k", "cache_position"}
"""Inputs that say how to compute, not what from."""

_LOGICAL = {"And", "Or", "Not", "Xor", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "IsNaN"}
_SHAPES = {"Shape", "Size"}
"""Operators whose outputs depend on the shape of what they take only."""


def find_sight(graph: GraphBytes) -> Edit | None:
    """The edit at the graph's attention, None where it can't be told."""
    scores = next((kind for name, kind in graph.inputs.items() if name not in _SIDE and kind in _FLOATS), 0)
    if not scores:  # no keys and values: nothing that a row could continue
        return None
    fused = [placed for placed in graph.nodes if placed.node.operator == _FUSED]
    return _fused(graph, fused, scores) if fused else _plain(graph)


def _fused(graph: GraphBytes, nodes: Sequence[Placed], scores: int) -> Edit | None:
    """Each operator's bias and positions, fed from outside.

    None where one has them already or sees a window only, or nothing else says what positions keys are turned by.

    Args:
        graph: the graph.
        nodes: the operators.
        scores: element type of keys and values: of the scores too, as a rule.
    """
    turns = any(placed.node.ints.get("do_rotary") for placed in nodes)
    changes = []
    for placed in nodes:
        inputs = [*placed.node.inputs, *[""] * (_BIAS_AT + 1 - len(placed.node.inputs))]
        if inputs[_PLACES_AT] or inputs[_BIAS_AT] or placed.node.ints.get("local_window_size", -1) > 0:
            return None
        inputs[_BIAS_AT] = BIAS
        if placed.node.ints.get("do_rotary"):
            inputs[_PLACES_AT] = PLACES
        changes.append((placed.whole, changed(graph, placed, inputs=inputs)))
    if not turns and _POSITIONS not in graph.inputs:
        return None
    ports = [port(BIAS, scores, ["rows or 1", 1, "tokens", "slots"])]
    ports += [port(PLACES, _INT64, ["rows", "tokens"])] if turns else []
    return Edit(changes, ports)


def _plain(graph: GraphBytes) -> Edit | None:
    """Join the input to the mask that all layers share, as near to them as it is shared."""
    content = _reached(graph, [name for name in graph.inputs if name not in _SIDE])
    masks = _reached(graph, [_MASK]) - content
    entering = {
        name
        for placed in graph.nodes
        if any(output in content for output in placed.node.outputs)
        for name in placed.node.inputs
        if name in masks
    }
    found = _shared(graph, sorted(entering), masks)
    kind = _type(graph, found)
    if found not in graph.producers or kind not in _JOINS or _POSITIONS not in graph.inputs:
        return None
    placed = graph.producers[found]
    outputs = [_OWN if name == found else name for name in placed.node.outputs]
    joined = changed(graph, placed, outputs=outputs) + node(_JOINS[kind], [_OWN, SEEN], found)
    added = [port(SEEN, kind, ["rows or 1", 1, "tokens or 1", "slots or 1"])]
    return Edit([(placed.whole, joined)], added)


def _reached(graph: GraphBytes, names: Iterable[str]) -> set[str]:
    """All values that are computed from some, except from their shapes. Nodes stand in the order of computing."""
    found = set(names)
    for placed in graph.nodes:
        if placed.node.operator not in _SHAPES and any(name in found for name in placed.node.inputs):
            found.update(name for name in placed.node.outputs if name)
    return found


def _shared(graph: GraphBytes, entering: Sequence[str], masks: set[str]) -> str:
    """The last value that all masks of layers are made from, '' for none."""
    ways = [_upwards(graph, name, masks) for name in entering]
    return next((name for name in ways[0] if all(name in way for way in ways[1:])), "") if ways else ""


def _upwards(graph: GraphBytes, name: str, masks: set[str]) -> list[str]:
    """A mask, what it was made from, and so on, as long as that is a single one."""
    way = [name]
    while name in graph.producers:
        before = {i for i in graph.producers[name].node.inputs if i in masks}
        if len(before) != 1 or before <= set(way):  # or a damaged graph that goes round
            break
        (name,) = before
        way.append(name)
    return way


def _type(graph: GraphBytes, name: str) -> int:
    """A value's element type, by the operators that it comes from; 0 where they don't say."""
    known: set[str] = set()
    while name and name not in known:
        known.add(name)
        if name in graph.weights:
            return graph.weights[name]
        if name not in graph.producers:
            return graph.inputs.get(name, 0)
        placed = graph.producers[name]
        operator, inputs = placed.node.operator, placed.node.inputs
        if operator in _LOGICAL:
            return _BOOL
        if operator == "Cast":
            return placed.node.ints.get("to", 0)
        if operator in ("Constant", "ConstantOfShape"):
            return _constant_type(graph, placed)
        name = inputs[1 if operator == "Where" else 0] if len(inputs) > (operator == "Where") else ""
    return 0


def _constant_type(graph: GraphBytes, placed: Placed) -> int:
    """The element type of the tensor among a node's attributes; float where there is none."""
    for field, span in fields(graph.data, *placed.inner):
        if field == 5 and isinstance(span, tuple) and (tensor := first_span(graph.data, span, 5)):
            return first_number(graph.data, tensor, 2)
    return 1
