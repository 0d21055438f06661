"""What a loaded graph takes and gives, by name and rank."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from cultev.errors import ModelUnsupported

_PAST = re.compile(r"past(?:_key_values)?\.(\d+)\.(key|value)")
_PRESENT = re.compile(r"present(?:_key_values)?\.(\d+)\.(key|value)")
_TYPES: dict[str, DTypeLike] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
}
_KEEP = ("num_logits_to_keep", "logits_to_keep")
_NEXT = "Export it again as a text-generation model with past keys and values, or use its GGUF."


class Port(Protocol):
    """An input or output as onnxruntime describes it."""

    name: str
    type: str
    shape: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Cache:
    """One tensor of keys or values: rows x heads x slots x numbers; keys and values in one have a 2 before that."""

    past: str
    present: str
    dtype: Any
    heads: int
    size: int
    stacked: bool = False

    def shape(self, rows: int, slots: int) -> tuple[int, ...]:
        """The tensor's dimensions."""
        return (*((2,) if self.stacked else ()), rows, self.heads, slots, self.size)

    @property
    def slot_bytes(self) -> int:
        """Bytes that one token takes in it."""
        return math.prod(self.shape(1, 1)) * int(np.dtype(self.dtype).itemsize)


@dataclass(frozen=True, slots=True)
class GraphPorts:
    """The names and types that a run needs. Names are '' where the graph lacks the port."""

    ids: str
    mask: str
    positions: str
    branch: str
    """A merged decoder's switch between its first run and later ones."""
    keep: str
    """How many positions' logits are asked, counted from the end; 0: all."""
    logits: str
    caches: tuple[Cache, ...]
    """In the graph's order; empty: the graph keeps no state and whole sequences are computed."""
    types: dict[str, Any]
    """Of the graph's inputs."""
    ranks: dict[str, int]
    """Dimensions of the graph's inputs."""
    one_row: bool
    """Whether the graph was made for a single sequence at a time."""

    @property
    def slot_bytes(self) -> int:
        """Bytes of keys and values per token."""
        return sum(c.slot_bytes for c in self.caches)


def read_ports(inputs: Sequence[Port], outputs: Sequence[Port], n_kv_heads: int, head_dim: int) -> GraphPorts:
    """Sort a graph's inputs and outputs; ``n_kv_heads`` and ``head_dim`` stand in where its shapes are open.

    Raises:
        ModelUnsupported: an input that nothing here can fill, or a missing one; the message names it.
    """
    named: dict[str, Port] = {}
    caches: list[Port] = []
    known = ("input_ids", "attention_mask", "position_ids", "use_cache_branch", *_KEEP)
    for port in inputs:
        if port.type not in _TYPES:
            raise _unsupported(f"its input '{port.name}' is of type {port.type}")
        if port.name in known:
            named[port.name] = port
        elif _PAST.fullmatch(port.name):
            caches.append(port)
        else:
            raise _unsupported(f"it wants an input '{port.name}', which is unknown here")
    ids = named.get("input_ids")
    if ids is None:
        raise _unsupported("it takes no 'input_ids'")
    if len(ids.shape) != 2 or isinstance(ids.shape[1], int):
        raise _unsupported(f"its 'input_ids' are of the fixed shape {list(ids.shape)}")
    given = {port.name: port for port in outputs}
    logits = given.get("logits")
    if logits is None or len(logits.shape) != 3:
        raise _unsupported("it gives no 'logits' of rows x tokens x vocabulary")
    keep = next((name for name in _KEEP if name in named), "")
    return GraphPorts(
        ids="input_ids",
        mask="attention_mask" if "attention_mask" in named else "",
        positions="position_ids" if "position_ids" in named else "",
        branch="use_cache_branch" if "use_cache_branch" in named else "",
        keep=keep,
        logits="logits",
        caches=tuple(_cache(port, given, n_kv_heads, head_dim) for port in caches),
        types={port.name: _TYPES[port.type] for port in inputs},
        ranks={port.name: len(port.shape) for port in inputs},
        one_row=isinstance(ids.shape[0], int),
    )


def _cache(port: Port, outputs: dict[str, Port], n_kv_heads: int, head_dim: int) -> Cache:
    match = _PAST.fullmatch(port.name)
    wanted = match.groups() if match else ()
    present = next((n for n in outputs if (m := _PRESENT.fullmatch(n)) and m.groups() == wanted), "")
    if not present:
        raise _unsupported(f"it takes '{port.name}' and gives no matching 'present'")
    if len(port.shape) != 4 or isinstance(port.shape[2], int):
        raise _unsupported(f"'{port.name}' has the shape {list(port.shape)}, not rows x heads x open x size")
    heads = port.shape[1] if isinstance(port.shape[1], int) else n_kv_heads
    size = port.shape[3] if isinstance(port.shape[3], int) else head_dim
    if not heads or not size:
        raise _unsupported(f"neither the graph nor its config says the size of '{port.name}'")
    return Cache(port.name, present, _TYPES[port.type], heads, size)


def _unsupported(why: str) -> ModelUnsupported:
    return ModelUnsupported(f"This ONNX graph can't be run here: {why}.", _NEXT)
