"""Lets a graph compute logits only where they are read.

Exported decoders multiply every position with the whole vocabulary, though one in ten is looked at, or none while a
prompt is read: a fifth of a small model's work, and most of its memory where the vocabulary is large. Here the product
that gives the logits is fed from a ``GatherND`` over a new input, (row, position) pairs; nothing else in the graph
changes. Edited as bytes, so that the onnx package isn't needed, and for loading only: files stay as they are.
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cultev.backend.onnx_proto import Buffer, Node, fields, read_node, text_at

READS = "cultev_reads"
"""The new input: int64, 1 x n x 2; then the logits are 1 x n x vocabulary."""

_PICKED = "cultev_picked"
_PRODUCTS = {"MatMul", "MatMulNBits"}
"""Products whose rows don't depend on each other. (``DynamicQuantizeLinear`` before a ``MatMulInteger`` makes them.)"""

_PLAIN = {"Cast", "Identity", "Mul", "Div", "Add", "Sub", "Tanh"}
"""What may stand between product and output: works number by number."""

_GRAPH, _NODE, _INITIALIZER, _INPUT = 7, 1, 5, 11
"""Field numbers of ModelProto and GraphProto."""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the product stands in the file, (start, end) of whole fields and of the bytes that they hold."""

    graph: tuple[int, int]
    body: tuple[int, int]
    node: tuple[int, int]
    inner: tuple[int, int]
    first_input: tuple[int, int]
    """The field in the node that names the hidden states."""
    hidden: str


@contextmanager
def edited(graph: Path, *, in_memory: bool) -> Iterator[Path | bytes | None]:
    """The graph with the input ``READS``: its bytes, or a temporary file; None for graphs without such a product.

    Args:
        graph: the file.
        in_memory: whether bytes are wanted, as for graphs whose weights lie beside them.

    Raises:
        OSError: it can't be read, or no temporary file be written.
    """
    with graph.open("rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            head = find_head(data)
        if head is None:
            yield None
        elif in_memory:
            yield b"".join(_pieces(file, head))
        else:
            with tempfile.TemporaryDirectory(prefix="cultev-") as folder:
                copy = Path(folder) / "model.onnx"
                with copy.open("wb") as target:
                    target.writelines(_pieces(file, head))
                yield copy


def has_head(graph: Path) -> bool:
    """Whether a graph can be edited so.

    Raises:
        OSError: it can't be read.
        ValueError: not an ONNX file.
    """
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return find_head(data) is not None


def find_head(data: Buffer) -> Head | None:
    """The product that gives the logits, None where it can't be told.

    Raises:
        ValueError: not an ONNX file.
    """
    found = next(_wholes(data, 0, len(data), _GRAPH), None)
    if found is None:
        return None
    graph, body = found
    nodes: dict[str, tuple[Node, tuple[int, int], tuple[int, int]]] = {}
    for whole, span in _wholes(data, *body, _NODE):
        node = read_node(data, *span)
        nodes.update((output, (node, whole, span)) for output in node.outputs)
    weights = {
        next((text_at(data, name) for f, name in fields(data, *span) if f == 8 and isinstance(name, tuple)), "")
        for _, span in _wholes(data, *body, _INITIALIZER)
    }
    producers = {name: node for name, (node, _, _) in nodes.items()}
    name = "logits"
    while name in nodes:
        node, whole, span = nodes[name]
        open_inputs = [i for i in node.inputs if i and not _constant(i, weights, producers)]
        if node.operator in _PRODUCTS and open_inputs == [node.inputs[0]]:
            first, _ = next(_wholes(data, *span, 1))
            return Head(graph, body, whole, span, first, node.inputs[0])
        if node.operator not in _PLAIN or len(open_inputs) != 1:
            return None
        name = open_inputs[0]
    return None


def _constant(name: str, weights: set[str], producers: Mapping[str, Node]) -> bool:
    """Whether a value is a weight, or made of weights alone (unpacked, transposed)."""
    if name in weights:
        return True
    node = producers.get(name)
    return node is not None and all(_constant(i, weights, producers) for i in node.inputs if i)


def _wholes(data: Buffer, start: int, end: int, wanted: int) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Of every field with that number: where it begins and ends, and where what it holds does."""
    for field, span in fields(data, start, end):
        if field == wanted and isinstance(span, tuple):
            yield (span[0] - len(_varint(span[1] - span[0])) - 1, span[1]), span


def _pieces(file: BinaryIO, head: Head) -> Iterator[bytes]:
    """The edited file, piece by piece. Read, not mapped: mapped pages would count as the process's memory."""
    (first, last), (start, end), (begin, stop) = head.first_input, head.inner, head.body
    before, after = (b"".join(_copied(file, *span)) for span in ((start, first), (last, end)))
    inner = before + _field(1, _PICKED.encode()) + after
    gather = (_field(1, head.hidden.encode()), _field(1, READS.encode()), _field(2, _PICKED.encode()), _GATHER)
    nodes = _field(_NODE, b"".join(gather)) + _field(_NODE, inner)
    port = _field(_INPUT, _field(1, READS.encode()) + _field(2, _PORT_TYPE))
    yield from _copied(file, 0, head.graph[0])
    yield _tag(_GRAPH) + _varint(stop - begin - (head.node[1] - head.node[0]) + len(nodes) + len(port))
    yield from _copied(file, begin, head.node[0])
    yield nodes
    yield from _copied(file, head.node[1], stop)
    yield port
    yield from _copied(file, stop, file.seek(0, 2))


def _copied(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, 1 << 20):
        file.seek(at)
        yield file.read(min(end - at, 1 << 20))


def _tag(number: int) -> bytes:
    """Of a field that holds bytes; its number is below 16."""
    return bytes([number << 3 | 2])


def _field(number: int, content: bytes) -> bytes:
    return _tag(number) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


_GATHER = _field(3, b"cultev_gather") + _field(4, b"GatherND")
_PORT_TYPE = _field(
    1, b"\x08\x07" + _field(2, b"".join(_field(1, d) for d in (b"\x08\x01", b"\x12\x01n", b"\x08\x02")))
)
"""A tensor of int64 (7) of the dimensions 1, 'n' and 2."""
