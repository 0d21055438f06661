"""Put onnxruntime's own attention into a Llama graph that optimum exported: what most published ONNX folders hold.

    python tools/make_random_onnx.py --shape smollm2-135m --quant int8 --attention fused -o folder

onnxruntime-genai's builder and transformers.js's conversions write attention as one operator, ``GroupQueryAttention``,
which turns queries and keys by their positions, keeps the past and counts the mask. Here it takes the place of the
plain operators that optimum writes for a layer of Llama; weights stay as they are, and so does what the graph computes,
rounding aside. For benchmarks and tests.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LAYER = "/model/layers.{}/self_attn/{}_proj/MatMul_output_0"
"""What optimum calls the output of a layer's projection."""


def fuse_attention(
    model: onnx.ModelProto, *, layers: int, heads: int, kv_heads: int, head_dim: int, rope_base: float, n_ctx: int
) -> None:
    """Replace the attention of all layers, in place; the input ``position_ids`` goes.

    Args:
        model: a Llama as optimum exports it with past keys and values.
        layers: of the decoder.
        heads: attention heads.
        kv_heads: heads of keys and values.
        head_dim: width of a head.
        rope_base: base of the rotary angles.
        n_ctx: positions that the tables of angles hold.

    Raises:
        KeyError: the graph has no such layer.
    """
    graph = model.graph
    angles = np.outer(np.arange(n_ctx), rope_base ** (-np.arange(0, head_dim, 2) / head_dim))
    graph.initializer.extend(
        numpy_helper.from_array(values, name)
        for name, values in {
            "cos_cache": np.cos(angles).astype(np.float32),
            "sin_cache": np.sin(angles).astype(np.float32),
            "fused_one": np.array([1]),
            "fused_slots": np.array(1),
        }.items()
    )
    counted = [
        helper.make_node("ReduceSum", ["attention_mask", "fused_one"], ["fused_count"], keepdims=0),
        helper.make_node("Sub", ["fused_count", "fused_one"], ["fused_last"]),
        helper.make_node("Cast", ["fused_last"], ["seqlens_k"], to=TensorProto.INT32),
        helper.make_node("Shape", ["attention_mask"], ["fused_shape"]),
        helper.make_node("Gather", ["fused_shape", "fused_slots"], ["fused_total"], axis=0),
        helper.make_node("Cast", ["fused_total"], ["total_sequence_length"], to=TensorProto.INT32),
    ]
    after = {output: node for node in graph.node for output in node.output}
    fused: dict[int, onnx.NodeProto] = {}
    for layer in range(layers):
        given = [f"present.{layer}.{part}" for part in ("key", "value")]
        projection = after[LAYER.format(layer, "o")]
        for node in graph.node:  # the old ones go by another name, and then out
            for names in (node.input, node.output):
                names[:] = [f"old_{name}" if name in given else name for name in names]
        fused[id(projection)] = helper.make_node(
            "GroupQueryAttention",
            [
                *(after[LAYER.format(layer, part)].output[0] for part in "qkv"),
                *(f"past_key_values.{layer}.{part}" for part in ("key", "value")),
                "seqlens_k", "total_sequence_length", "cos_cache", "sin_cache",
            ],
            [f"fused_{layer}", *given],
            domain="com.microsoft", num_heads=heads, kv_num_heads=kv_heads, do_rotary=1,
        )  # fmt: skip
        projection.input[0] = f"fused_{layer}"
    nodes = list(counted)
    for node in graph.node:
        nodes += [fused[id(node)], node] if id(node) in fused else [node]
    kept = _needed(nodes, [output.name for output in graph.output])
    del graph.node[:]
    graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    for values in (graph.initializer, graph.input):
        for value in [v for v in values if v.name not in used]:
            values.remove(value)
    if all(opset.domain != "com.microsoft" for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _needed(nodes: list[onnx.NodeProto], outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes, in order, on which outputs depend."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if any(output in needed for output in node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]
