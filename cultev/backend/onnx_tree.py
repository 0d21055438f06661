"""Runs token trees through an ONNX decoder's session: feeds, keys and values, logits."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cultev.backend.logprobs import gather_logprobs, require_finite
from cultev.backend.onnx_graph import GraphPorts
from cultev.backend.onnx_rows import Row, Shape, batches, chains, whole_rows
from cultev.backend.prefix import TokenTree
from cultev.backend.sequences import Wanted
from cultev.errors import EngineError

SLICE = 512
"""Most tokens of one row in one run."""

LOGITS_BYTES = 256 * 2**20
"""Bytes of logits that one run may give: rows x tokens x vocabulary x 4."""

PAST_BYTES = 128 * 2**20
"""Bytes of keys and values that one run's rows may take."""


Places = dict[int, tuple[int, list[NDArray[Any]], int]]
"""Node -> its row's parent node, its row's keys and values (heads x tokens x numbers), its offset in them."""


class Session(Protocol):
    """The part of onnxruntime's session that is used."""

    def run(self, outputs: list[str], feeds: dict[str, Any]) -> list[NDArray[Any]]:
        """Compute the named outputs."""
        ...


class Way(enum.Enum):
    """How rows may share a run, from the fastest to the one that every graph can do."""

    MIXED = "rows of any length together, gaps masked"
    EVEN = "rows with equally long pasts together"
    SINGLE = "one row at a time"
    WHOLE = "no kept state: whole sequences"


class TreeRunner:
    """Holds a trunk's keys and values and computes trees after it.

    Args:
        session: the loaded graph.
        ports: its inputs and outputs.
        way: how rows may share a run.
        n_vocab: width of the logits.
        n_ctx: tokens that a row may have.
        last_only: whether the graph gives the logits of each row's last token only.
    """

    def __init__(
        self,
        session: Session,
        ports: GraphPorts,
        way: Way,
        *,
        n_vocab: int,
        n_ctx: int,
        last_only: bool = False,
    ) -> None:
        self.session = session
        self.ports = ports
        self.way = way
        self.last_only = last_only
        self.gap = 0.0
        """What masked gaps are filled with: any number would do, yet a stray NaN would spread."""
        cells = max(1, LOGITS_BYTES // (4 * n_vocab))
        if last_only:
            cells = SLICE * 64
        self._slice = min(SLICE, cells)
        self._shape = Shape(
            mixed_past=way in (Way.MIXED, Way.WHOLE),
            mixed_length=not last_only,
            one_row=ports.one_row or way is Way.SINGLE,
            cells=cells,
            slots=max(1, PAST_BYTES // max(1, ports.slot_bytes)),
            n_ctx=n_ctx,
        )
        self._trunk: tuple[int, ...] = ()
        self._state: list[NDArray[Any]] = self._empty_past(1)
        self._buffers: list[NDArray[Any]] = [np.empty(0, c.dtype) for c in ports.caches]

    def hold(self, trunk: tuple[int, ...]) -> None:
        """Compute the trunk from nothing, in slices, and keep its keys and values; nothing to do if held."""
        if trunk == self._trunk:
            return
        self._trunk, self._state = (), self._empty_past(1)
        if self.way is not Way.WHOLE:
            names = [c.present for c in self.ports.caches]
            for start in range(0, len(trunk), self._slice):
                ids = np.array([trunk[start : start + self._slice]])
                end = start + ids.shape[1]
                positions = np.arange(start, end)[None]
                self._state = self._run(names, ids, positions, np.ones((1, end)), self._state, keep=1)
        self._trunk = trunk

    def compute(self, tree: TokenTree, wanted: Wanted) -> NDArray[np.float64]:
        """Log-probabilities of ``wanted``, in nats, after the held trunk."""
        asked: dict[int, list[int]] = {}
        for i, (node, _) in enumerate(wanted):
            asked.setdefault(node, []).append(i)
        result = np.empty(len(wanted), dtype=np.float64)
        places: Places = {}
        for level in self._levels(tree, asked):
            for batch in batches(level, self._shape):
                self._compute_batch(batch, asked, wanted, result, places)
        require_finite(result)
        return result

    def logits_shape(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """Rows, tokens and vocabulary of the logits that the graph gives for one short row."""
        n = len(tokens)
        given = self._run(
            [self.ports.logits], np.array([tokens]), np.arange(n)[None], np.ones((1, n)), self._empty_past(1)
        )
        return given[0].shape

    def _levels(self, tree: TokenTree, asked: dict[int, list[int]]) -> list[list[Row]]:
        if self.way is Way.WHOLE:
            return [whole_rows(tree, self._trunk, sorted(asked) if self.last_only else tree.leaves)]
        return chains(tree, self._slice, set(asked) if self.last_only else frozenset())

    def _compute_batch(
        self,
        batch: Sequence[Row],
        asked: dict[int, list[int]],
        wanted: Wanted,
        result: NDArray[np.float64],
        places: Places,
    ) -> None:
        """One run: fills ``result`` and ``places``."""
        lines, picks = self._reads(batch, asked)
        length = max(len(r.tokens) for r in batch)
        past = max(r.past for r in batch)
        keep = max(r.keep for r in batch)
        outputs = [self.ports.logits] if lines else []
        if keep:
            outputs += [c.present for c in self.ports.caches]
        # Rows are filled up at their end, with their last token again: nothing before can see it.
        ids = np.array([(*r.tokens, *[r.tokens[-1]] * (length - len(r.tokens))) for r in batch])
        offsets = np.arange(length)[None]
        ends = np.array([[len(r.tokens) - 1] for r in batch])
        starts = np.array([[r.past] for r in batch])
        positions = starts + np.minimum(offsets, ends)
        mask = np.ones((len(batch), past + length))
        mask[:, :past] = np.arange(past)[None] < starts
        given = self._run(outputs, ids, positions, mask, self._past(batch, past, places))
        if keep:
            presents = given[-len(self.ports.caches) :]
            own = [np.ascontiguousarray(p[:, :, past : past + keep]) for p in presents]
            for i, row in enumerate(batch):
                kept = [o[i] for o in own]
                for offset, node in enumerate(row.nodes[: row.keep]):
                    places[node] = row.parent, kept, offset
        if lines:
            rows, columns = np.array(lines).T
            logits = given[0][rows, 0 if self.last_only else columns].astype(np.float32, copy=False)
            targets = [i for indices in picks for i in indices]
            tokens = np.array([wanted[i][1] for i in targets], dtype=np.intp)
            lengths = [len(indices) for indices in picks]
            result[targets] = gather_logprobs(logits, np.repeat(np.arange(len(picks)), lengths), tokens)

    def _reads(
        self, batch: Sequence[Row], asked: dict[int, list[int]]
    ) -> tuple[list[tuple[int, int]], list[list[int]]]:
        """(row, offset) of the logits to read, and for each the indices in ``wanted`` that it answers."""
        lines, picks = [], []
        for i, row in enumerate(batch):
            first = len(row.nodes) - 1 if self.last_only else 0
            for offset in range(first, len(row.nodes)):
                # A whole row repeats what others hold too: the first to compute a node answers for it.
                indices = asked.pop(row.nodes[offset], None)
                if indices:
                    lines.append((i, offset))
                    picks.append(indices)
        return lines, picks

    def _past(self, batch: Sequence[Row], slots: int, places: Places) -> list[NDArray[Any]]:
        """Keys and values before each row, from the trunk and the rows it continues; gaps are zero."""
        pieces = [self._pieces(row, places) for row in batch]
        trunk = len(self._trunk) if self.way is not Way.WHOLE else 0
        past = []
        for c, cache in enumerate(self.ports.caches):
            size = len(batch) * cache.heads * slots * cache.size
            if self._buffers[c].size < size:  # kept between runs: fresh memory costs more than filling it
                self._buffers[c] = np.empty(size, cache.dtype)
            view = self._buffers[c][:size].reshape(len(batch), cache.heads, slots, cache.size)
            view[:, :, :trunk] = self._state[c][:, :, :trunk]
            for target, parts, row in zip(view, pieces, batch, strict=True):
                at = trunk
                for kept, n in parts:
                    target[:, at : at + n] = kept[c][:, :n]
                    at += n
                target[:, row.past :] = self.gap
            past.append(view)
        return past

    def _pieces(self, row: Row, places: Places) -> list[tuple[list[NDArray[Any]], int]]:
        """What stands between the trunk and a row, in order: keys and values, and how many of them."""
        parts, node = [], row.parent
        while node >= 0:
            node, kept, offset = places[node]
            parts.append((kept, offset + 1))
        return parts[::-1]

    def _empty_past(self, rows: int) -> list[NDArray[Any]]:
        return [np.empty((rows, c.heads, 0, c.size), c.dtype) for c in self.ports.caches]

    def _run(
        self,
        outputs: list[str],
        ids: NDArray[Any],
        positions: NDArray[Any],
        mask: NDArray[Any],
        past: Sequence[NDArray[Any]],
        keep: int = 0,
    ) -> list[NDArray[Any]]:
        """One run; ``ids`` and ``positions`` are rows x tokens, ``mask`` rows x (past + tokens)."""
        ports = self.ports
        slots = mask.shape[1] - ids.shape[1]
        feeds: dict[str, Any] = {
            ports.ids: ids,
            ports.mask: mask,
            ports.positions: positions,
            ports.branch: np.array([slots > 0]),
            ports.keep: np.array(keep).reshape((1,) * ports.keep_rank),
        }
        feeds.pop("", None)
        feeds = {name: np.ascontiguousarray(value, dtype=ports.types[name]) for name, value in feeds.items()}
        feeds.update((c.past, p) for c, p in zip(ports.caches, past, strict=True))
        try:
            return self.session.run(outputs, feeds)
        except Exception as error:  # onnxruntime's errors share no class of their own
            raise EngineError(f"onnxruntime failed: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
