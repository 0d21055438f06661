"""Makes tiny ONNX model folders for tests: a Llama-like decoder of plain operators, a tokenizer, a config.

The graphs differ in the ways in which exported ones do: keys and values or none, explicit positions or none,
float16 borders, logits of the last token only, grouped heads, onnxruntime's own attention operator, sliding
windows, odd inputs. Weights are random and large enough that every token matters.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

LETTERS = "abcdefghijklmnopqrstuvwxyz .,?!"
BOS, EOS, USER = "<s>", "</s>", "<|user|>"


@dataclass
class Spec:
    """What the graph should look like."""

    vocab: int = 48
    dim: int = 24
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    context: int = 256
    seed: int = 0
    cache: bool = True
    positions: bool = True
    half: bool = False
    last_only: bool = False
    keep_input: bool = False
    branch_input: bool = False
    extra_input: str = ""
    one_row: bool = False
    fused: bool = False
    """Attention by com.microsoft.GroupQueryAttention, which takes no gaps and one row after a past."""
    counts: bool = False
    """Fused attention that is told the lengths (``seqlens_k``, ``total_sequence_length``) instead of a mask."""
    past_name: str = "past_key_values.{}.{}"
    present_name: str = "present.{}.{}"
    stacked: bool = False
    """Keys and values in one tensor, 2 x rows x heads x slots x numbers."""
    hidden: bool = False
    """Whether ``last_hidden_state`` is given too."""
    ignores_mask: bool = False
    nan: bool = False
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def head_dim(self) -> int:
        return 8 if not self.fused else 16


class _Graph:
    """Collects nodes and weights."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(spec.seed)

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"{kind.lower()}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    def const(self, value: Any, dtype: Any = np.int64) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(value, dtype=dtype), name))
        return name

    def matrix(self, *shape: int, scale: float = 1.0) -> str:
        return self.const(self.rng.standard_normal(shape) * scale / np.sqrt(shape[0]), np.float32)

    def norm(self, x: str) -> str:
        square = self.op("ReduceMean", self.op("Mul", x, x), axes=[-1], keepdims=1)
        root = self.op("Sqrt", self.op("Add", square, self.const(1e-6, np.float32)))
        weight = self.const(1 + 0.2 * self.rng.standard_normal(self.spec.dim), np.float32)
        return self.op("Mul", self.op("Div", x, root), weight)

    def split_heads(self, x: str, heads: int) -> str:
        shaped = self.op("Reshape", x, self.const([0, 0, heads, self.spec.head_dim]))
        return self.op("Transpose", shaped, perm=[0, 2, 1, 3])

    def rotate(self, x: str, cos: str, sin: str) -> str:
        half = self.spec.head_dim // 2
        first, second = self.op("Split", x, self.const([half, half]), outputs=2, axis=-1)
        turned = self.op("Concat", self.op("Neg", second), first, axis=-1)
        return self.op("Add", self.op("Mul", x, cos), self.op("Mul", turned, sin))

    def size(self, x: str, axis: int) -> str:
        """One dimension as a vector of one number."""
        return self.op("Gather", self.op("Shape", x), self.const([axis]), axis=0)

    def scalar(self, x: str) -> str:
        return self.op("Squeeze", x, self.const([0]))

    def range(self, start: str, end: str) -> str:
        return self.op("Range", self.scalar(start), self.scalar(end), self.const(1))


def make_graph(spec: Spec) -> onnx.ModelProto:
    """The decoder as a model."""
    g = _Graph(spec)
    number = TensorProto.FLOAT16 if spec.half else TensorProto.FLOAT
    rows = 1 if spec.one_row else "rows"
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, [rows, "tokens"]),
    ]
    if spec.counts:
        inputs.append(helper.make_tensor_value_info("seqlens_k", TensorProto.INT32, [rows]))
        inputs.append(helper.make_tensor_value_info("total_sequence_length", TensorProto.INT32, []))
    else:
        inputs.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, [rows, "slots"]))
    if spec.positions:
        inputs.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, [rows, "tokens"]))
    if spec.keep_input:
        inputs.append(helper.make_tensor_value_info("num_logits_to_keep", TensorProto.INT64, []))
    if spec.branch_input:
        inputs.append(helper.make_tensor_value_info("use_cache_branch", TensorProto.BOOL, [1]))
    if spec.extra_input:
        inputs.append(helper.make_tensor_value_info(spec.extra_input, TensorProto.FLOAT, [1]))
    outputs = [helper.make_tensor_value_info("logits", number, [rows, "given", spec.vocab])]
    shape = [rows, spec.kv_heads, "past", spec.head_dim]
    if spec.hidden:
        outputs.append(helper.make_tensor_value_info("last_hidden_state", number, [rows, "tokens", spec.dim]))
    if spec.cache:
        for layer in range(spec.layers):
            for part in ("both",) if spec.stacked else ("key", "value"):
                before, after = spec.past_name.format(layer, part), spec.present_name.format(layer, part)
                dims = [2, *shape] if spec.stacked else shape
                inputs.append(helper.make_tensor_value_info(before, number, dims))
                outputs.append(helper.make_tensor_value_info(after, number, [*dims[:-2], "all", dims[-1]]))
    _body(g)
    graph = helper.make_graph(g.nodes, "tiny", inputs, outputs, g.weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def _body(g: _Graph) -> None:
    spec = g.spec
    x = g.op("Gather", g.const(g.rng.standard_normal((spec.vocab, spec.dim)), np.float32), "input_ids")
    length = g.size("input_ids", 1)
    first = spec.past_name.format(0, "both" if spec.stacked else "key")
    past = g.size(first, 3 if spec.stacked else 2) if spec.cache else g.const([0])
    total = g.op("Add", past, length)
    queries = g.range(past, total)
    angles = np.outer(np.arange(spec.context), 100.0 ** -np.linspace(0, 1, spec.head_dim // 2))
    attend = _fused(g, angles) if spec.fused else _plain(g, angles, past, total, queries)
    for layer in range(spec.layers):
        h = g.norm(x)
        x = g.op("Add", x, attend(layer, h))
        h = g.norm(x)
        gate = g.op("MatMul", h, g.matrix(spec.dim, 2 * spec.dim))
        gate = g.op("Mul", gate, g.op("Sigmoid", gate))
        up = g.op("Mul", gate, g.op("MatMul", h, g.matrix(spec.dim, 2 * spec.dim)))
        x = g.op("Add", x, g.op("MatMul", up, g.matrix(2 * spec.dim, spec.dim)))
    x = g.norm(x)
    if spec.hidden:
        _output(g, x, "last_hidden_state")
    if spec.last_only:
        x = g.op("Slice", x, g.const([-1]), g.const([2**31]), g.const([1]))
    if spec.keep_input:
        # 0 asks for all: slicing from minus nought starts at the first.
        start = g.op("Neg", g.op("Reshape", "num_logits_to_keep", g.const([1])))
        x = g.op("Slice", x, start, g.const([2**31]), g.const([1]))
    logits = g.op("MatMul", x, g.matrix(spec.dim, spec.vocab, scale=3.0))
    if spec.nan:
        logits = g.op("Log", g.op("Neg", g.op("Abs", logits)))
    if spec.branch_input:  # a switch that must be fed and right: off on a first run only
        empty = g.op("Equal", past, g.const([0]))
        wrong = g.op("Not", g.op("Xor", "use_cache_branch", empty))
        logits = g.op("Add", logits, g.op("Cast", wrong, to=TensorProto.FLOAT))
        logits = g.op("Mul", logits, g.op("Sub", g.const(1, np.float32), g.op("Cast", wrong, to=TensorProto.FLOAT)))
    _output(g, logits, "logits")


def _output(g: _Graph, x: str, name: str) -> None:
    kind = TensorProto.FLOAT16 if g.spec.half else TensorProto.FLOAT
    g.nodes.append(helper.make_node("Cast", [x], [name], to=kind))


def _plain(g: _Graph, angles: Any, past: str, total: str, queries: str) -> Any:
    """Attention of plain operators, with a causal mask and, unless told otherwise, the attention mask."""
    spec = g.spec
    both = np.concatenate([angles, angles], axis=1)
    where = "position_ids" if spec.positions else g.op("Unsqueeze", queries, g.const([0]))
    cos = g.op("Unsqueeze", g.op("Gather", g.const(np.cos(both), np.float32), where), g.const([1]))
    sin = g.op("Unsqueeze", g.op("Gather", g.const(np.sin(both), np.float32), where), g.const([1]))
    keys = g.range(g.const([0]), total)
    seen = g.op("LessOrEqual", g.op("Unsqueeze", keys, g.const([0])), g.op("Unsqueeze", queries, g.const([1])))
    if not spec.ignores_mask:
        given = g.op("Unsqueeze", g.op("Cast", "attention_mask", to=TensorProto.BOOL), g.const([1, 2]))
        seen = g.op("And", seen, given)
    bias = g.op("Where", seen, g.const(0, np.float32), g.const(-1e9, np.float32))
    group = spec.heads // spec.kv_heads

    def keep(layer: int, part: str, x: str) -> str:
        if not spec.cache:
            return x
        if spec.stacked:
            both = spec.past_name.format(layer, "both")
            before = g.op("Squeeze", g.op("Gather", both, g.const([part == "value"]), axis=0), g.const([0]))
        else:
            before = spec.past_name.format(layer, part)
        if spec.half:
            before = g.op("Cast", before, to=TensorProto.FLOAT)
        x = g.op("Concat", before, x, axis=2)
        if not spec.stacked:
            _output(g, x, spec.present_name.format(layer, part))
        return x

    def widen(x: str) -> str:
        x = g.op("Expand", g.op("Unsqueeze", x, g.const([2])), g.const([1, 1, group, 1, 1]))
        return g.op("Reshape", x, g.const([0, spec.heads, -1, spec.head_dim]))

    def attend(layer: int, h: str) -> str:
        q = g.split_heads(g.op("MatMul", h, g.matrix(spec.dim, spec.heads * spec.head_dim, scale=2.0)), spec.heads)
        k = g.split_heads(g.op("MatMul", h, g.matrix(spec.dim, spec.kv_heads * spec.head_dim)), spec.kv_heads)
        v = g.split_heads(g.op("MatMul", h, g.matrix(spec.dim, spec.kv_heads * spec.head_dim)), spec.kv_heads)
        k, v = keep(layer, "key", g.rotate(k, cos, sin)), keep(layer, "value", v)
        if spec.stacked:
            parts = [g.op("Unsqueeze", x, g.const([0])) for x in (k, v)]
            _output(g, g.op("Concat", *parts, axis=0), spec.present_name.format(layer, "both"))
        k, v = widen(k), widen(v)
        scores = g.op("MatMul", g.rotate(q, cos, sin), g.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = g.op("Add", g.op("Mul", scores, g.const(spec.head_dim**-0.5, np.float32)), bias)
        mixed = g.op("Transpose", g.op("MatMul", g.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        flat = g.op("Reshape", mixed, g.const([0, 0, spec.heads * spec.head_dim]))
        return str(g.op("MatMul", flat, g.matrix(spec.heads * spec.head_dim, spec.dim)))

    return attend


def _fused(g: _Graph, angles: Any) -> Any:
    """Attention as onnxruntime-genai exports it: one operator that counts the mask instead of reading it."""
    spec = g.spec
    if spec.counts:
        lengths, total = "seqlens_k", "total_sequence_length"
    else:
        counted = g.op("ReduceSum", "attention_mask", g.const([1]), keepdims=0)
        lengths = g.op("Cast", g.op("Sub", counted, g.const(1)), to=TensorProto.INT32)
        total = g.op("Cast", g.scalar(g.size("attention_mask", 1)), to=TensorProto.INT32)
    cos, sin = g.const(np.cos(angles), np.float32), g.const(np.sin(angles), np.float32)

    def attend(layer: int, h: str) -> str:
        q = g.op("MatMul", h, g.matrix(spec.dim, spec.heads * spec.head_dim, scale=2.0))
        k = g.op("MatMul", h, g.matrix(spec.dim, spec.kv_heads * spec.head_dim))
        v = g.op("MatMul", h, g.matrix(spec.dim, spec.kv_heads * spec.head_dim))
        pasts = [spec.past_name.format(layer, part) for part in ("key", "value")]
        out = f"fused_{layer}"
        g.nodes.append(
            helper.make_node(
                "GroupQueryAttention", [q, k, v, *pasts, lengths, total, cos, sin],
                [out, *(spec.present_name.format(layer, part) for part in ("key", "value"))], domain="com.microsoft",
                num_heads=spec.heads, kv_num_heads=spec.kv_heads, do_rotary=1,
            )
        )  # fmt: skip
        return str(g.op("MatMul", out, g.matrix(spec.heads * spec.head_dim, spec.dim)))

    return attend


def make_tokenizer(path: Path, *, bos: bool = False) -> None:
    """One letter a token, three special tokens; ``bos``: the post-processor puts a BOS first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    vocab = {letter: i for i, letter in enumerate(["<unk>", *LETTERS])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([BOS, EOS, USER])
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
        )
    tokenizer.save(str(path))


def make_folder(folder: Path, spec: Spec | None = None, *, external: bool = False, bos: bool = False) -> Path:
    """A whole model folder."""
    spec = spec or Spec()
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save_model(
        make_graph(spec), str(folder / "model.onnx"), save_as_external_data=external,
        location="model.onnx.data", size_threshold=0,
    )  # fmt: skip
    make_tokenizer(folder / "tokenizer.json", bos=bos)
    config = {
        "model_type": "tiny", "vocab_size": spec.vocab, "hidden_size": spec.dim, "head_dim": spec.head_dim,
        "num_hidden_layers": spec.layers, "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads, "max_position_embeddings": spec.context, **spec.config,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    settings = {"bos_token": BOS, "eos_token": {"content": EOS}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def make_embedder(folder: Path, *, pooled: bool = False) -> Path:
    """A folder of an embedding model: hidden states of one layer of attention to both sides, or their mean as well."""
    g = _Graph(Spec())
    x = g.op("Gather", g.const(g.rng.standard_normal((48, 24)), np.float32), "input_ids")
    x = g.op("Add", x, g.op("Gather", g.const(g.rng.standard_normal((2, 24)), np.float32), "token_type_ids"))
    q, k = (g.op("MatMul", x, g.matrix(24, 24, scale=2.0)) for _ in range(2))
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 2, 1]))
    given = g.op("Unsqueeze", g.op("Cast", "attention_mask", to=TensorProto.BOOL), g.const([1]))
    bias = g.op("Where", given, g.const(0, np.float32), g.const(-1e9, np.float32))
    mixed = g.op("MatMul", g.op("Softmax", g.op("Add", scores, bias), axis=-1), x)
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["rows", "tokens", 24])]
    _output(g, mixed, "last_hidden_state")
    if pooled:  # the first token's vector, as models trained with [CLS] have it
        _output(g, g.op("Squeeze", g.op("Gather", mixed, g.const([0]), axis=1), g.const([1])), "sentence_embedding")
        outputs.append(helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["rows", 24]))
    names = ("input_ids", "attention_mask", "token_type_ids")
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT64, ["rows", "tokens"]) for n in names]
    graph = helper.make_graph(g.nodes, "embedder", inputs, outputs, g.weights)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    make_tokenizer(folder / "tokenizer.json", bos=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": 48}), encoding="utf-8")
    return folder
