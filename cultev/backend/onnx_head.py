"""Lets a graph compute logits only where they are read.

Exported decoders multiply every position with the whole vocabulary, though one in ten is looked at, or none while a
prompt is read: a fifth of a small model's work, and most of its memory where the vocabulary is large. Here the product
that gives the logits is fed from a ``GatherND`` over a new input, (row, position) pairs; nothing else in the graph
changes.
"""

from __future__ import annotations

from cultev.backend.onnx_edit import Edit, GraphBytes, changed, node, port

READS = "cultev_reads"
"""The new input: int64, 1 x n x 2; then the logits are 1 x n x vocabulary."""

_PICKED = "cultev_picked"
_PRODUCTS = {"MatMul", "MatMulNBits"}
"""Products whose rows don't depend on each other. (``DynamicQuantizeLinear`` before a ``MatMulInteger`` makes them.)"""

_PLAIN = {"Cast", "Identity", "Mul", "Div", "Add", "Sub", "Tanh"}
"""What may stand between product and output: works number by number."""

_INT64 = 7


def find_head(graph: GraphBytes) -> Edit | None:
    """The edit at the product that gives the logits, None where it can't be told."""
    name, known = "logits", {""}
    while name in graph.producers and name not in known:
        known.add(name)
        placed = graph.producers[name]
        inputs = placed.node.inputs
        open_inputs = [i for i in inputs if i and not graph.constant(i)]
        if placed.node.operator in _PRODUCTS and open_inputs == [inputs[0]]:
            gather = node("GatherND", [inputs[0], READS], _PICKED)
            product = changed(graph, placed, inputs=[_PICKED, *inputs[1:]])
            added = [port(READS, _INT64, [1, "n", 2])]
            return Edit([(placed.whole, gather + product)], added)
        if placed.node.operator not in _PLAIN or len(open_inputs) != 1:
            return None
        name = open_inputs[0]
    return None
