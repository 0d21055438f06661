"""What an ONNX file says of itself, read from its bytes: no onnx package, nothing loaded.

An ``.onnx`` file is one protobuf message. This walks the few fields needed (of ``onnx.proto`` in the ONNX
specification) and skips the weights, so that a graph of gigabytes costs milliseconds; a file that was cut
short shows here, before an engine trips over it.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

Buffer = bytes | mmap.mmap | memoryview

Span = tuple[int, int]
"""Where bytes begin and end."""

GRAPH = 7
"""Field number of ModelProto that holds the graph."""

_TYPE_WORDS = {1: "fp32", 2: "int8", 3: "int8", 10: "fp16", 11: "fp64", 16: "bf16", 21: "int4", 22: "int4"}
"""TensorProto.DataType -> the word people use; types that only carry shapes and indices are not weights."""

_FOREIGN = "its bytes are not those of an ONNX file"
_SHORT = "it ends early: a copy or a download was cut short"

_BLOCK_OPS = {"MatMulNBits", "GatherBlockQuantized"}
"""Operators whose weights are packed in blocks of 2 to 8 bits, inside uint8."""


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What is known of a graph without loading it."""

    external: tuple[str, ...]
    """Files, relative to the graph's folder, that hold weights; sorted."""
    operators: frozenset[str]
    """Operator names used in the main graph."""
    n_params: int
    """Elements of all weights, packed ones counted unpacked; some scales and tables too, about 1 %."""
    quantization: str
    """Type of most weights: 'fp32', 'fp16', 'bf16', 'int8', 'int4'..., or 'unknown'."""
    halves: int = 0
    """Elements of the float16 weights that are computed with, not only looked up: a CPU widens them to float32."""
    blocks: int = 0
    """Blocks of the products' weights that are packed in few bits: each has a scale."""


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a graph."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    ints: dict[str, int]
    """Its attributes that are whole numbers."""


def read_graph(path: Path) -> GraphFacts:
    """Walk the file.

    Raises:
        ValueError: not an ONNX file, or cut short; the text says which.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ValueError("the file is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            graph = first_span(data, (0, len(data)), GRAPH)
            if graph is None:
                raise ValueError("it holds no graph")
            return _graph_facts(data, *graph)


def _graph_facts(data: Buffer, start: int, end: int) -> GraphFacts:
    nodes: list[Node] = []
    external: set[str] = set()
    weights: dict[str, tuple[str, int]] = {}
    for field, span in fields(data, start, end):
        if not isinstance(span, tuple):
            continue
        if field == 1:
            nodes.append(read_node(data, *span))
        elif field == 5:
            name, kind, size, location = _tensor(data, *span)
            if kind:
                weights[name] = kind, size
            if location:
                external.add(location)
    halves, blocks = _halves(nodes, weights), _blocks(nodes, weights)
    operators = frozenset(n.operator for n in nodes)
    return GraphFacts(tuple(sorted(external)), operators, *_count(nodes, weights), halves, blocks)


def _halves(nodes: list[Node], weights: dict[str, tuple[str, int]]) -> int:
    """See ``GraphFacts.halves``; packed products read float16 scales as they are."""
    used = {name for n in nodes if n.operator != "Gather" and n.operator not in _BLOCK_OPS for name in n.inputs}
    return sum(size for name, (kind, size) in weights.items() if kind == "fp16" and name in used)


def _blocks(nodes: list[Node], weights: dict[str, tuple[str, int]]) -> int:
    """See ``GraphFacts.blocks``; a scale that several products share counts once."""
    scales = {n.inputs[2] for n in nodes if n.operator == "MatMulNBits" and len(n.inputs) > 2}
    return sum(weights[name][1] for name in scales if name in weights)


def _count(nodes: list[Node], weights: dict[str, tuple[str, int]]) -> tuple[int, str]:
    """Parameters, and the type of most of them."""
    elements: Counter[str] = Counter()
    for node in nodes:
        if node.operator in _BLOCK_OPS:
            bits = node.ints.get("bits", 4)
            # The matrix is input 1 of a product, input 0 of a look-up; scales and zero points follow.
            packed = node.inputs[1 if node.operator == "MatMulNBits" else 0]
            if packed in weights:
                elements[f"int{bits}"] += weights.pop(packed)[1] * 8 // bits
            for other in node.inputs[2:]:
                weights.pop(other, None)
    for kind, size in weights.values():
        elements[kind] += size
    if not elements:
        return 0, "unknown"
    return sum(elements.values()), elements.most_common(1)[0][0]


def read_node(data: Buffer, start: int, end: int) -> Node:
    """The node between two bytes."""
    operator, inputs, outputs, ints = "", [], [], {}
    for field, span in fields(data, start, end):
        if not isinstance(span, tuple):
            continue
        if field == 1:
            inputs.append(text_at(data, span))
        elif field == 2:
            outputs.append(text_at(data, span))
        elif field == 4:
            operator = text_at(data, span)
        elif field == 5:
            name, value = "", None
            for inner, item in fields(data, *span):
                if inner == 1 and isinstance(item, tuple):
                    name = text_at(data, item)
                elif inner == 3 and isinstance(item, int):
                    value = item
            if value is not None:
                ints[name] = value
    return Node(operator, tuple(inputs), tuple(outputs), ints)


def _tensor(data: Buffer, start: int, end: int) -> tuple[str, str, int, str]:
    """Name, type word ('' for what is no weight), elements, external file ('' where the graph holds it)."""
    dims: list[int] = []
    kind, name, location = 0, "", ""
    for field, span in fields(data, start, end):
        if field == 1:
            dims.extend([span] if isinstance(span, int) else _packed(data, *span))
        elif field == 2 and isinstance(span, int):
            kind = span
        elif field == 8 and isinstance(span, tuple):
            name = text_at(data, span)
        elif field == 13 and isinstance(span, tuple):
            entry = {f: text_at(data, s) for f, s in fields(data, *span) if isinstance(s, tuple)}
            if entry.get(1) == "location":
                location = entry.get(2, "")
    return name, _TYPE_WORDS.get(kind, "") if dims else "", prod(dims), location


def _packed(data: Buffer, start: int, end: int) -> Iterator[int]:
    while start < end:
        value, start = _varint(data, start, end)
        yield value


def first_span(data: Buffer, span: Span, number: int) -> Span | None:
    """Where the first field of a message with that number has its bytes; None where it has none."""
    return next((s for f, s in fields(data, *span) if f == number and isinstance(s, tuple)), None)


def first_number(data: Buffer, span: Span, number: int) -> int:
    """The first field of a message with that number, as a whole number; 0 where it has none."""
    return next((n for f, n in fields(data, *span) if f == number and isinstance(n, int)), 0)


def text_at(data: Buffer, span: tuple[int, int]) -> str:
    """The text between two bytes."""
    return bytes(data[span[0] : span[1]]).decode("utf-8", "replace")


def fields(data: Buffer, start: int, end: int) -> Iterator[tuple[int, int | tuple[int, int]]]:
    """(field number, value or (start, end) of its bytes) of one message; fixed-width values are skipped."""
    while start < end:
        tag, start = _varint(data, start, end)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            value, start = _varint(data, start, end)
            yield field, value
            continue
        if wire == 2:
            size, start = _varint(data, start, end)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(_FOREIGN)
        if field == 0:
            raise ValueError(_FOREIGN)
        if start + size > end:
            raise ValueError(_SHORT)
        if wire == 2:
            yield field, (start, start + size)
        start += size


def _varint(data: Buffer, start: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while start < end and shift < 70:
        byte = data[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
        shift += 7
    raise ValueError(_SHORT if start >= end else _FOREIGN)
