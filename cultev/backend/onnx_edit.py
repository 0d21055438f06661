"""Graphs edited as they are loaded: inputs added, operators put in or fed from elsewhere. Files stay as they are.

Edited as bytes, so that the onnx package isn't needed and weights are copied without being looked at. What is edited,
and why, is in ``onnx_head`` (logits only where they are read) and ``onnx_sight`` (rows that branch).
"""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cultev.backend.onnx_proto import (
    GRAPH,
    Buffer,
    Node,
    Span,
    fields,
    first_number,
    first_span,
    read_node,
    text_at,
)

INPUT, OUTPUT = 1, 2
"""Field numbers of NodeProto that name what it takes and gives."""

_NODE, _INITIALIZER, _GRAPH_INPUT = 1, 5, 11
"""Field numbers of GraphProto."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A node and where it stands in the file."""

    node: Node
    whole: Span
    """With its tag and length."""
    inner: Span


@dataclass(frozen=True, slots=True)
class GraphBytes:
    """A model's main graph as it stands in a file."""

    data: Buffer
    nodes: Sequence[Placed]
    weights: Mapping[str, int]
    """Initializers' names and element types (``TensorProto.DataType``)."""
    inputs: Mapping[str, int]
    """The same of the graph's inputs."""
    producers: Mapping[str, Placed]
    """What gives a value, by the value's name."""

    def constant(self, name: str) -> bool:
        """Whether a value is a weight, or made of weights alone (unpacked, transposed)."""
        waiting, known = [name], {name}
        while waiting:
            value = waiting.pop()
            if value in self.weights:
                continue
            if value not in self.producers:
                return False
            new = {i for i in self.producers[value].node.inputs if i} - known
            known |= new
            waiting += new
        return True


@dataclass(frozen=True, slots=True)
class Edit:
    """What is different in an edited graph."""

    changes: Sequence[tuple[Span, bytes]]
    """Spans of whole fields of the graph, and what stands in their place."""
    inputs: Sequence[bytes]
    """New inputs (see ``port``)."""


Finder = Callable[[GraphBytes], Edit | None]
"""From a graph to its edit, or None where it can't be told what to edit."""


def read_bytes(data: Buffer) -> GraphBytes | None:
    """The main graph; None where there is none, or its fields don't stand as they are usually written.

    Raises:
        ValueError: not an ONNX file.
    """
    body = first_span(data, (0, len(data)), GRAPH)
    if body is None or _whole(data, GRAPH, body) is None:
        return None
    nodes = []
    weights: dict[str, int] = {}
    inputs: dict[str, int] = {}
    for field, span in fields(data, *body):
        if not isinstance(span, tuple):
            continue
        if field == _NODE:
            standing = _whole(data, _NODE, span)
            if standing is None:
                return None
            nodes.append(Placed(read_node(data, *span), standing, span))
        elif field == _INITIALIZER:
            weights[_text(data, span, 8)] = first_number(data, span, 2)
        elif field == _GRAPH_INPUT:
            kind = first_span(data, span, 2)
            tensor = first_span(data, kind, 1) if kind else None
            inputs[_text(data, span, 1)] = first_number(data, tensor, 1) if tensor else 0
    producers = {name: placed for placed in nodes for name in placed.node.outputs if name}
    return GraphBytes(data, nodes, weights, inputs, producers)


def find_edits(graph: Path, finders: Sequence[Finder]) -> list[Edit | None]:
    """What each finder would edit in a graph's file.

    Raises:
        OSError: it can't be read.
        ValueError: not an ONNX file.
    """
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = read_bytes(data)
        return [find(found) if found else None for find in finders]


@contextmanager
def edited(graph: Path, edits: Sequence[Edit], *, in_memory: bool) -> Iterator[Path | bytes]:
    """The edited graph: its bytes, or a temporary file.

    Args:
        graph: the file.
        edits: found in it, at different places.
        in_memory: whether bytes are wanted, as for graphs whose weights lie beside them.

    Raises:
        OSError: it can't be read, or no temporary file be written.
        ValueError: no ONNX file in which edits can have been found.
    """
    with graph.open("rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            body = first_span(data, (0, len(data)), GRAPH)
            whole = _whole(data, GRAPH, body) if body else None
        if not body or not whole:
            raise ValueError("it holds no graph")
        if in_memory:
            yield b"".join(_pieces(file, whole, body, edits))
            return
        with tempfile.TemporaryDirectory(prefix="cultev-") as folder:
            copy = Path(folder) / "model.onnx"
            with copy.open("wb") as target:
                target.writelines(_pieces(file, whole, body, edits))
            yield copy


def changed(
    graph: GraphBytes, placed: Placed, *, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None
) -> bytes:
    """A node's whole field with other inputs or outputs, the rest as it stands."""
    parts = []
    new = {INPUT: inputs, OUTPUT: outputs}
    for field, span in fields(graph.data, *placed.inner):
        if not isinstance(span, tuple):
            continue  # a node holds texts and messages only
        names = new.get(field)
        if names is None:
            parts.append(as_field(field, bytes(graph.data[slice(*span)])))
    parts += [as_field(number, name.encode()) for number, names in new.items() for name in names or ()]
    return as_field(_NODE, b"".join(parts))


def node(operator: str, inputs: Sequence[str], output: str) -> bytes:
    """The whole field of a new node of ONNX's own operators, without attributes; it is called as its output."""
    parts = [as_field(INPUT, name.encode()) for name in inputs]
    parts += [as_field(OUTPUT, output.encode()), as_field(3, output.encode()), as_field(4, operator.encode())]
    return as_field(_NODE, b"".join(parts))


def port(name: str, kind: int, dims: Sequence[int | str]) -> bytes:
    """The whole field of a new input of the graph.

    Args:
        name: its name.
        kind: its element type (``TensorProto.DataType``).
        dims: its dimensions; those with a name are open.
    """
    shape = b"".join(as_field(1, as_field(2, d.encode()) if isinstance(d, str) else b"\x08" + varint(d)) for d in dims)
    tensor = b"\x08" + varint(kind) + as_field(2, shape)
    return as_field(_GRAPH_INPUT, as_field(1, name.encode()) + as_field(2, as_field(1, tensor)))


def as_field(number: int, content: bytes) -> bytes:
    """A field that holds bytes; its number is below 16."""
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def varint(value: int) -> bytes:
    """A whole number as protobuf writes it."""
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _whole(data: Buffer, number: int, span: Span) -> Span | None:
    """With its tag and its length; None where that takes more bytes than it needs, so that it can't be told."""
    head = bytes([number << 3 | 2]) + varint(span[1] - span[0])
    start = span[0] - len(head)
    return (start, span[1]) if start >= 0 and bytes(data[start : span[0]]) == head else None


def _text(data: Buffer, span: Span, number: int) -> str:
    found = first_span(data, span, number)
    return text_at(data, found) if found else ""


def _pieces(file: BinaryIO, whole: Span, body: Span, edits: Sequence[Edit]) -> Iterator[bytes]:
    """The edited file, piece by piece. Read, not mapped: mapped pages would count as the process's memory."""
    changes = sorted((change for edit in edits for change in edit.changes), key=lambda change: change[0])
    inputs = b"".join(text for edit in edits for text in edit.inputs)
    grown = len(inputs) + sum(len(content) - (end - start) for (start, end), content in changes)
    yield from _copied(file, 0, whole[0])
    yield bytes([GRAPH << 3 | 2]) + varint(body[1] - body[0] + grown)
    at = body[0]
    for (start, end), content in changes:
        yield from _copied(file, at, start)
        yield content
        at = end
    yield from _copied(file, at, body[1])
    yield inputs
    yield from _copied(file, body[1], file.seek(0, 2))


def _copied(file: BinaryIO, start: int, end: int) -> Iterator[bytes]:
    for at in range(start, end, 1 << 20):
        file.seek(at)
        yield file.read(min(end - at, 1 << 20))
