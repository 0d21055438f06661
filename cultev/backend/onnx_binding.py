"""Runs of a graph: feeds filled in from tokens, positions and a mask; keys and values that stay where they are.

Everything goes through onnxruntime's IO binding, on the CPU and on CUDA alike: what a run gives can be fed to the
next without being copied, and on CUDA without leaving the device. Only logits, and the keys and values that are
asked for, come back as numpy arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cultev.backend.onnx_graph import GraphPorts
from cultev.errors import EngineError

Value = Any
"""One tensor of keys or values as onnxruntime holds it (an ``OrtValue``), on the CPU or on a device."""


class Given(NamedTuple):
    """What a run gave: logits (rows x tokens x vocabulary) or None, and the presents or ()."""

    logits: NDArray[Any] | None
    presents: list[Value]


class Binding:
    """A session with its ports.

    Args:
        session: onnxruntime's session.
        ports: its inputs and outputs.
        device: where keys and values are kept: 'cpu' or 'cuda'.
    """

    def __init__(self, session: Any, ports: GraphPorts, device: str = "cpu") -> None:
        from onnxruntime import OrtValue

        self._from_numpy = OrtValue.ortvalue_from_numpy
        self._session = session
        self.ports = ports
        self.device = device

    def value(self, array: NDArray[Any]) -> Value:
        """An array as a tensor on the device; on the CPU it is the array's own memory."""
        return self._from_numpy(array, self.device, 0)

    def host(self, value: Value) -> NDArray[Any]:
        """A tensor's numbers as an array: the tensor's own memory where that can be had, else a copy."""
        array: NDArray[Any] = value.numpy()
        return array

    def writable(self, values: Sequence[Value]) -> list[NDArray[Any]] | None:
        """Arrays through which the tensors can be written to, None where their memory is out of reach."""
        if self.device != "cpu":
            return None
        arrays = [self.host(v) for v in values]
        return arrays if all(a.ctypes.data == v.data_ptr() for a, v in zip(arrays, values, strict=True)) else None

    def empty_past(self, rows: int) -> list[Value]:
        """Keys and values of no token."""
        return [self.value(np.empty(c.shape(rows, 0), c.dtype)) for c in self.ports.caches]

    def run(
        self,
        ids: NDArray[Any],
        positions: NDArray[Any],
        mask: NDArray[Any],
        past: Sequence[Value],
        *,
        logits: bool = True,
        presents: bool = False,
        keep: int = 0,
    ) -> Given:
        """One run.

        Args:
            ids: token ids, rows x tokens.
            positions: likewise.
            mask: rows x (past + tokens), 0 where a slot must not be seen.
            past: a tensor of keys or values per cache, with as many slots as ``mask`` has before the tokens.
            logits: whether they are asked.
            presents: whether the keys and values of past + tokens are asked.
            keep: of how many positions, counted from the end, logits are asked, where the graph can choose; 0: all.

        Raises:
            EngineError: onnxruntime failed.
        """
        named = [(self.ports.logits, "cpu")] if logits else []
        if presents:
            named += [(cache.present, self.device) for cache in self.ports.caches]
        outputs = self._compute(self._feeds(ids, positions, mask, keep), past, named)
        first = self.host(outputs.pop(0)) if logits else None
        if outputs and outputs[0].shape()[-2] < mask.shape[1]:
            raise EngineError(
                f"The graph gives keys and values of {outputs[0].shape()[-2]} of {mask.shape[1]} tokens: its sliding"
                " window forgets the others.",
                "Use a shorter --n-ctx, an export with a full cache, or its GGUF.",
            )
        return Given(first, outputs)

    def hidden(self, ids: NDArray[Any], positions: NDArray[Any], mask: NDArray[Any]) -> NDArray[Any]:
        """The hidden states (rows x tokens x width) or embeddings (rows x width) of whole texts."""
        named = [(self.ports.hidden, "cpu")]
        past = self.empty_past(len(ids))
        return self.host(self._compute(self._feeds(ids, positions, mask, 1), past, named)[0])

    def _compute(
        self, feeds: dict[str, NDArray[Any]], past: Sequence[Value], outputs: Sequence[tuple[str, str]]
    ) -> list[Value]:
        """Bind everything and run; ``outputs`` are names and the devices where they are wanted."""
        try:
            binding = self._session.io_binding()
            for name, array in feeds.items():
                binding.bind_cpu_input(name, array)
            for cache, value in zip(self.ports.caches, past, strict=True):
                binding.bind_ortvalue_input(cache.past, value)
            for name, device in outputs:
                binding.bind_output(name, device)
            self._session.run_with_iobinding(binding)
            return list(binding.get_outputs())
        except Exception as error:  # onnxruntime's errors share no class of their own
            raise EngineError(f"onnxruntime failed: {first_line(error)}") from error

    def _feeds(
        self, ids: NDArray[Any], positions: NDArray[Any], mask: NDArray[Any], keep: int
    ) -> dict[str, NDArray[Any]]:
        ports = self.ports
        n = ids.shape[1]
        slots = mask.shape[1] - n
        feeds: dict[str, NDArray[Any]] = {
            ports.ids: ids,
            ports.mask: mask,
            ports.positions: positions,
            ports.branch: np.array([slots > 0]),
            ports.keep: np.array(keep),
            # Inputs that some exporters add for their own attention operators; see ``onnx_graph``.
            "past_sequence_length": np.array(slots),
            "total_sequence_length": np.array(mask.shape[1]),
            "seqlens_k": np.reshape(mask.sum(axis=1) - 1, (-1,) + (1,) * (ports.ranks.get("seqlens_k", 1) - 1)),
            "cache_position": np.arange(slots, slots + n),
            "token_type_ids": np.zeros_like(ids),
        }
        given = {}
        for name, value in feeds.items():
            if name in ports.types:
                shaped = np.reshape(value, (*(1,) * (ports.ranks[name] - value.ndim), *value.shape))
                given[name] = np.ascontiguousarray(shaped, dtype=ports.types[name])
        return given


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
