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
from cultev.backend.onnx_sight import BIAS, PLACES
from cultev.errors import EngineError

Value = Any
"""One tensor of keys or values as onnxruntime holds it (an ``OrtValue``), on the CPU or on a device."""


Reads = Sequence[tuple[int, int]] | NDArray[np.int64]
"""Positions, as (row, token) pairs; not empty."""


class Given(NamedTuple):
    """What a run gave: the logits (n x vocabulary) of the positions asked or None, and the presents or []."""

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
        reads: Reads | None = None,
        seen: NDArray[np.bool_] | None = None,
        presents: bool = False,
        into: Sequence[Value] = (),
    ) -> Given:
        """One run.

        Args:
            ids: token ids, rows x tokens.
            positions: likewise.
            mask: rows x (past + tokens), 0 where a slot must not be seen.
            past: a tensor of keys or values per cache, with as many slots as ``mask`` has before the tokens.
            reads: (row, token) pairs of the positions whose logits are asked.
            seen: rows x tokens x tokens, which of the run's tokens up to itself a token sees; all unless given, and for
                graphs with ``ports.sight`` only.
            presents: whether the keys and values of past + tokens are asked.
            into: tensors of the presents' shapes to write them to; new ones unless given.

        Raises:
            EngineError: onnxruntime failed.
        """
        named: list[tuple[str, str | Value]] = [(self.ports.logits, "cpu")] if reads is not None else []
        if presents:
            places = into or [self.device] * len(self.ports.caches)
            named += [(cache.present, place) for cache, place in zip(self.ports.caches, places, strict=True)]
        try:
            outputs = self._compute(self._feeds(ids, positions, mask, reads, seen), past, named)
        except EngineError:
            if into:  # maybe of other shapes than the graph has it: what is wrong with them is said below
                return self.run(ids, positions, mask, past, reads=reads, seen=seen, presents=presents)
            raise
        logits = self._picked(outputs.pop(0), reads, ids.shape[1]) if reads is not None else None
        if outputs and outputs[0].shape()[-2] < mask.shape[1]:
            raise EngineError(
                f"The graph gives keys and values of {outputs[0].shape()[-2]} of {mask.shape[1]} tokens: its sliding"
                " window forgets the others.",
                "Use a shorter --n-ctx, an export with a full cache, or its GGUF.",
            )
        return Given(logits, outputs)

    def _picked(self, value: Value, reads: Reads, n_tokens: int) -> NDArray[Any]:
        """The logits of ``reads``. Graphs give exactly these, or all positions', or those of some at the end."""
        given = self.host(value)
        rows, tokens = np.asarray(reads).T
        picked: NDArray[Any] = given[0] if self.ports.reads else given[rows, tokens - n_tokens + given.shape[1]]
        return picked

    def try_out(self) -> tuple[int, bool]:
        """Run three tokens: width of the logits, and whether only the last token's come.

        Raises:
            EngineError: onnxruntime failed.
        """
        ids, one = np.array([[0, 1, 2]]), np.ones((1, 3), np.bool_)
        reads = np.array([(0, 0), (0, 1), (0, 2)])
        feeds = self._feeds(ids, np.arange(3)[None], one, reads)
        (value,) = self._compute(feeds, self.empty_past(1), [(self.ports.logits, "cpu")])
        _, tokens, n_vocab = value.shape()
        return n_vocab, tokens == 1

    def try_past(self) -> None:
        """Run two tokens after one.

        Raises:
            EngineError: onnxruntime failed.
        """
        past = [self.value(np.zeros(c.shape(1, 1), c.dtype)) for c in self.ports.caches]
        self.run(np.array([[1, 2]]), np.array([[1, 2]]), np.ones((1, 3), np.bool_), past, reads=[(0, 0), (0, 1)])

    def hidden(self, ids: NDArray[Any], positions: NDArray[Any], mask: NDArray[Any]) -> NDArray[Any]:
        """The hidden states (rows x tokens x width) or embeddings (rows x width) of whole texts."""
        named = [(self.ports.hidden, "cpu")]
        past = self.empty_past(len(ids))
        return self.host(self._compute(self._feeds(ids, positions, mask, None), past, named)[0])

    def _compute(
        self, feeds: dict[str, NDArray[Any]], past: Sequence[Value], outputs: Sequence[tuple[str, str | Value]]
    ) -> list[Value]:
        """Bind everything and run; ``outputs`` are names, and the devices where they are wanted or their tensors."""
        try:
            binding = self._session.io_binding()
            for name, array in feeds.items():
                binding.bind_cpu_input(name, array)
            for cache, value in zip(self.ports.caches, past, strict=True):
                binding.bind_ortvalue_input(cache.past, value)
            for name, place in outputs:
                if isinstance(place, str):
                    binding.bind_output(name, place)
                else:
                    binding.bind_ortvalue_output(name, place)
            self._session.run_with_iobinding(binding)
            return list(binding.get_outputs())
        except Exception as error:  # onnxruntime's errors share no class of their own
            raise EngineError(f"onnxruntime failed: {first_line(error)}") from error

    def _feeds(
        self,
        ids: NDArray[Any],
        positions: NDArray[Any],
        mask: NDArray[Any],
        reads: Reads | None,
        seen: NDArray[np.bool_] | None = None,
    ) -> dict[str, NDArray[Any]]:
        ports = self.ports
        n = ids.shape[1]
        # Logits that nobody asks for are computed all the same: of one position, where the graph has a choice.
        asked = np.array([(0, n - 1)]) if reads is None else np.asarray(reads)
        slots = mask.shape[1] - n
        feeds: dict[str, NDArray[Any]] = {
            ports.ids: ids,
            ports.mask: mask,
            ports.positions: positions,
            ports.branch: np.array([slots > 0]),
            ports.keep: np.array(0 if ports.reads else n - int(asked[:, 1].min())),
            ports.reads: asked,
            ports.sight: self._sight(n, slots, seen) if ports.sight else np.array(0),
            PLACES: positions,
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

    def _sight(self, n: int, slots: int, seen: NDArray[np.bool_] | None) -> NDArray[Any]:
        """What ``ports.sight`` is fed for ``n`` tokens after ``slots``. Gaps and what comes later stay hidden."""
        kind = np.dtype(self.ports.types[self.ports.sight])
        spelt = (1, 1, n, slots + n) if self.ports.sight == BIAS else (1, 1, 1, 1)
        if seen is None:
            return np.ones(spelt, np.bool_) if kind == np.bool_ else np.zeros(spelt, kind)
        all_seen = np.ones((len(seen), 1, n, slots + n), np.bool_)
        all_seen[..., slots:] = seen[:, None]
        return all_seen if kind == np.bool_ else np.where(all_seen, kind.type(0), np.finfo(kind).min)


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
