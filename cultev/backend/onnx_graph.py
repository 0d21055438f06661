"""What a loaded graph takes and gives, by name and rank.

The names are those of optimum, transformers.js and onnxruntime-genai (``past_key_values.0.key`` and
``present.0.key``), of older exporters of theirs (``past_0`` and ``present_0`` with keys and values in one tensor,
``past_key_0``, ``key_cache_0``), and of feature extraction (``last_hidden_state``, ``sentence_embedding``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from cultev.backend.onnx_head import READS
from cultev.backend.onnx_sight import BIAS, PLACES, SEEN
from cultev.errors import ModelUnsupported

_CACHE_IN = (
    r"(?:past(?:_key_values)?|cache|kv_cache)[._](?P<layer>\d+)[._](?P<part>key|value|k|v)",
    r"(?:past_)?(?P<part>key|value|k|v)(?:_cache)?[._](?P<layer>\d+)",
    r"past(?:_key_values)?[._](?P<layer>\d+)(?P<part>)",
)
_CACHE_OUT = (
    r"(?:present(?:_key_values)?|cache_out|kv_cache_out)[._](?P<layer>\d+)[._](?P<part>key|value|k|v)",
    r"(?:present_)?(?P<part>key|value|k|v)(?:_cache)?(?:_out|_present)?[._](?P<layer>\d+)",
    r"(?:present_)?(?P<part>key|value|k|v)(?:_cache)?[._](?P<layer>\d+)_out",
    r"present(?:_key_values)?[._](?P<layer>\d+)(?P<part>)",
)
"""Names of one layer's keys or values; an empty part: both in one tensor."""

_TYPES: dict[str, DTypeLike] = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(bool)": np.bool_,
}
_KEEP = ("num_logits_to_keep", "logits_to_keep")
_PLAIN = {"input_ids": 2, "attention_mask": 2, "position_ids": 2, READS: 3, SEEN: 4, BIAS: 4, PLACES: 2}
"""Inputs that must have exactly so many dimensions."""
_COUNTS = (
    "use_cache_branch",
    "past_sequence_length",
    "total_sequence_length",
    "seqlens_k",
    "cache_position",
    "token_type_ids",
)
"""Other inputs that ``onnx_binding`` knows how to fill."""
_FOREIGN = {
    "encoder_hidden_states": "it is the decoder of an encoder-decoder model",
    "decoder_input_ids": "it is an encoder-decoder model",
    "encoder_attention_mask": "it is the decoder of an encoder-decoder model",
    "inputs_embeds": "it reads embeddings instead of token ids, as the parts of multimodal models do",
    "pixel_values": "it looks at images",
    "image_features": "it looks at images",
    "input_features": "it listens to audio",
    "past_conv": "it keeps the state of convolutions (a hybrid such as LFM2)",
    "conv_state": "it keeps the state of convolutions (a hybrid or recurrent model)",
    "past_ssm": "it keeps a recurrent state",
    "ssm_state": "it keeps a recurrent state",
    "past_recurrent": "it keeps a recurrent state",
    "beam": "it searches beams by itself",
    "max_length": "it holds the loop of generating in itself",
}
"""Beginnings of input names, and what they say of the model."""
_HIDDEN = ("sentence_embedding", "last_hidden_state", "hidden_states", "token_embeddings")
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
    reads: str
    """Which positions' logits are asked, one by one (see ``onnx_head``)."""
    sight: str
    """What each token sees, so that rows may branch (see ``onnx_sight``): ``SEEN``, or ``BIAS``, which is spelt out."""
    logits: str
    """Rows x tokens x vocabulary; '' for a model that only embeds."""
    hidden: str
    """Hidden states, rows x tokens x width, or an embedding of each row, rows x width."""
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
    for port in inputs:
        if why := next((why for start, why in _FOREIGN.items() if port.name.startswith(start)), ""):
            raise _unsupported(f"it wants an input '{port.name}': {why}")
        if port.type not in _TYPES:
            raise _unsupported(f"its input '{port.name}' is of type {port.type}")
        if port.name in (*_PLAIN, *_COUNTS, *_KEEP):
            if len(port.shape) != _PLAIN.get(port.name, len(port.shape)):
                raise _unsupported(f"its '{port.name}' has {len(port.shape)} dimensions, not {_PLAIN[port.name]}")
            named[port.name] = port
        elif _layer(port.name, _CACHE_IN):
            caches.append(port)
        else:
            raise _unsupported(f"it wants an input '{port.name}', which is unknown here")
    ids = named.get("input_ids")
    if ids is None:
        raise _unsupported("it takes no 'input_ids'")
    if isinstance(ids.shape[1], int):
        raise _unsupported(f"its 'input_ids' are of the fixed shape {list(ids.shape)}")
    given = {port.name: port for port in outputs}
    logits = given.get("logits")
    hidden = next((name for name in _HIDDEN if name in given), "")
    if (logits is None and not hidden) or (logits is not None and len(logits.shape) != 3):
        raise _unsupported("it gives no 'logits' of rows x tokens x vocabulary")
    return GraphPorts(
        ids="input_ids",
        mask="attention_mask" if "attention_mask" in named else "",
        positions="position_ids" if "position_ids" in named else "",
        branch="use_cache_branch" if "use_cache_branch" in named else "",
        keep=next((name for name in _KEEP if name in named), ""),
        reads=READS if READS in named else "",
        sight=next((name for name in (SEEN, BIAS) if name in named), ""),
        logits="logits" if logits else "",
        hidden=hidden,
        caches=tuple(_cache(port, given, n_kv_heads, head_dim) for port in caches),
        types={port.name: _TYPES[port.type] for port in inputs},
        ranks={port.name: len(port.shape) for port in inputs},
        one_row=isinstance(ids.shape[0], int),
    )


def _layer(name: str, patterns: Sequence[str]) -> tuple[int, str] | None:
    """(layer, 'k', 'v' or '' for both) by a cache's name; None for what is no cache."""
    for pattern in patterns:
        if match := re.fullmatch(pattern, name):
            return int(match["layer"]), match["part"][:1]
    return None


def _cache(port: Port, outputs: dict[str, Port], n_kv_heads: int, head_dim: int) -> Cache:
    wanted = _layer(port.name, _CACHE_IN)
    present = next((name for name in outputs if _layer(name, _CACHE_OUT) == wanted), "")
    if not present:
        raise _unsupported(f"it takes '{port.name}' and gives no matching 'present'")
    stacked = wanted is not None and not wanted[1]
    dims = list(port.shape)
    if len(dims) != 4 + stacked or isinstance(dims[-2], int) or (stacked and dims[0] != 2):
        order = "2 x rows x heads x open x size" if stacked else "rows x heads x open x size"
        raise _unsupported(f"'{port.name}' has the shape {dims}, not {order}")
    heads = dims[-3] if isinstance(dims[-3], int) else n_kv_heads
    size = dims[-1] if isinstance(dims[-1], int) else head_dim
    if not heads or not size:
        raise _unsupported(f"neither the graph nor its config says the size of '{port.name}'")
    return Cache(port.name, present, _TYPES[port.type], heads, size, stacked)


def _unsupported(why: str) -> ModelUnsupported:
    return ModelUnsupported(f"This ONNX graph can't be run here: {why}.", _NEXT)
