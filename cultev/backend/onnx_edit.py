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

from cultev.backend.onnx_proto import Buffer, Node, fields, read_node, text_at

Span = tuple[int, int]
"""Where bytes begin and end."""

INPUT, OUTPUT = 1, 2
"""Field numbers of NodeProto that name what it takes and gives."""

_GRAPH, _NODE, _INITIALIZER, _GRAPH_INPUT = 7, 1, 5, 11
"""Field numbers of ModelProto and GraphProto."""


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
    whole: Span
    body: Span
    nodes: Sequence[Placed]
    weights: Mapping[str, int]
    """Initializers' names and element types (``TensorProto.DataType``)."""
    inputs: Mapping[str, int]
    """The same of the graph's inputs."""
    producers: Mapping[str, Placed]
    """What gives a value, by the value's name."""

    def constant(self, name: str) -> bool:
        """Whether a value is a weight, or made of weights alone (unpacked, transposed)."""
        if name in self.weights:
            return True
        found = self.producers.get(name)
        return found is not None and all(self.constant(i) for i in found.node.inputs if i)


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
    """The main graph; None where there is none.

    Raises:
        ValueError: not an ONNX file.
    """
    found = next(wholes(data, 0, len(data), _GRAPH), None)
    if found is None:
        return None
    nodes = []
    weights: dict[str, int] = {}
    inputs: dict[str, int] = {}
    for field, span in fields(data, *found[1]):
        if not isinstance(span, tuple):
            continue
        if field == _NODE:
            nodes.append(Placed(read_node(data, *span), _whole(span), span))
        elif field == _INITIALIZER:
            weights[_text(data, span, 8)] = _number(data, span, 2)
        elif field == _GRAPH_INPUT:
            kind = next((s for f, s in fields(data, *span) if f == 2 and isinstance(s, tuple)), span)
            tensor = next((s for f, s in fields(data, *kind) if f == 1 and isinstance(s, tuple)), kind)
            inputs[_text(data, span, 1)] = _number(data, tensor, 1)
    producers = {name: placed for placed in nodes for name in placed.node.outputs if name}
    return GraphBytes(data, found[0], found[1], nodes, weights, inputs, producers)


@contextmanager
def edited(graph: Path, finders: Sequence[Finder], *, in_memory: bool) -> Iterator[Path | bytes | None]:
    """The edited graph: its bytes, or a temporary file; None where no finder finds what it edits.

    Args:
        graph: the file.
        finders: of edits that don't overlap.
        in_memory: whether bytes are wanted, as for graphs whose weights lie beside them.

    Raises:
        OSError: it can't be read, or no temporary file be written.
        ValueError: not an ONNX file.
    """
    with graph.open("rb") as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            found = read_bytes(data)
            edits = [find(found) if found else None for find in finders]
            whole, body = (found.whole, found.body) if found else ((0, 0), (0, 0))
            del found  # it looks into the mapped file
        chosen = [edit for edit in edits if edit is not None]
        if not chosen:
            yield None
        elif in_memory:
            yield b"".join(_pieces(file, whole, body, chosen))
        else:
            with tempfile.TemporaryDirectory(prefix="cultev-") as folder:
                copy = Path(folder) / "model.onnx"
                with copy.open("wb") as target:
                    target.writelines(_pieces(file, whole, body, chosen))
                yield copy


def can_edit(graph: Path, find: Finder) -> bool:
    """Whether a finder finds what it edits.

    Raises:
        OSError: it can't be read.
        ValueError: not an ONNX file.
    """
    with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = read_bytes(data)
        return found is not None and find(found) is not None


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


def wholes(data: Buffer, start: int, end: int, wanted: int) -> Iterator[tuple[Span, Span]]:
    """Of every field with that number: where it begins and ends, and where what it holds does."""
    for field, span in fields(data, start, end):
        if field == wanted and isinstance(span, tuple):
            yield _whole(span), span


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


def _whole(span: Span) -> Span:
    """With its tag (one byte: numbers here are below 16) and its length, written in as few bytes as can be."""
    return span[0] - len(varint(span[1] - span[0])) - 1, span[1]


def _text(data: Buffer, span: Span, number: int) -> str:
    return next((text_at(data, s) for f, s in fields(data, *span) if f == number and isinstance(s, tuple)), "")


def _number(data: Buffer, span: Span, number: int) -> int:
    return next((n for f, n in fields(data, *span) if f == number and isinstance(n, int)), 0)


def _pieces(file: BinaryIO, whole: Span, body: Span, edits: Sequence[Edit]) -> Iterator[bytes]:
    """The edited file, piece by piece. Read, not mapped: mapped pages would count as the process's memory."""
    changes = sorted((change for edit in edits for change in edit.changes), key=lambda change: change[0])
    inputs = b"".join(text for edit in edits for text in edit.inputs)
    grown = len(inputs) + sum(len(content) - (end - start) for (start, end), content in changes)
    yield from _copied(file, 0, whole[0])
    yield bytes([_GRAPH << 3 | 2]) + varint(body[1] - body[0] + grown)
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
