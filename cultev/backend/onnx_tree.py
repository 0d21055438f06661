"""Runs token trees through an ONNX decoder's session: feeds, keys and values, logits."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cultev.backend.logprobs import gather_logprobs, require_finite
from cultev.backend.onnx_binding import Binding, Given, Reads, Value
from cultev.backend.onnx_past import PastBuffers, Piece, copy_row, cut, length_of
from cultev.backend.onnx_rows import Row, Shape, batches, bushes, chains, whole_rows
from cultev.backend.onnx_sight import PLACES
from cultev.backend.prefix import STRICT_SLICE, TokenTree, common_prefix
from cultev.backend.sequences import Wanted

SLICE = 512
"""Most tokens of one row in one run."""

CELLS = 512
"""Most rows x tokens of one run."""

LOGITS_BYTES = 64 * 2**20
"""Bytes of logits that one run may compute where the graph gives those of all positions, asked or not: rows x tokens
x vocabulary x 4."""

PAST_BYTES = 64 * 2**20
"""Bytes of keys and values that one run's rows may take."""


Places = dict[int, tuple[int, list[NDArray[Any]], int]]
"""Node -> its row's parent node, its row's keys and values (heads x tokens x numbers), its offset in them."""


class Way(enum.Enum):
    """How rows may share a run, from the fastest to the one that every graph can do."""

    MIXED = "rows of any length together, gaps masked"
    EVEN = "rows with equally long pasts together"
    SINGLE = "one row at a time"
    WHOLE = "no kept state: whole sequences"


class TreeRunner:
    """Holds a trunk's keys and values and computes trees after it.

    Args:
        binding: the loaded graph.
        way: how rows may share a run.
        n_vocab: width of the logits.
        n_ctx: tokens that a row may have.
        last_only: whether the graph gives the logits of each row's last token only.
        branches: whether rows may branch, where the graph takes that (see ``GraphPorts.sight``).
        strict: whether a trunk is computed in slices of ``STRICT_SLICE``, whatever was held before.
        batch: most tokens of one row in one run, where that is less than ``SLICE``.
        threads: that turn logits into log-probabilities.
    """

    def __init__(
        self,
        binding: Binding,
        way: Way,
        *,
        n_vocab: int,
        n_ctx: int,
        last_only: bool = False,
        branches: bool = False,
        strict: bool = False,
        batch: int = SLICE,
        threads: int = 1,
    ) -> None:
        self.binding = binding
        self.way = way
        self.n_ctx = n_ctx
        self.last_only = last_only
        self.branches = branches and bool(binding.ports.sight) and not last_only
        self.buffers = PastBuffers(binding)
        ports = binding.ports
        # Where the graph gives few logits, what bounds a run is a pack, and that caches hold no more anyway.
        few = last_only or ports.reads
        cells = CELLS if few else max(1, min(CELLS, LOGITS_BYTES // (4 * n_vocab)))
        self.slice = max(1, min(SLICE, cells, batch))
        """Most tokens of one row in one run."""
        self._strict = strict
        self._threads = threads
        self.shape = Shape(
            mixed_past=way in (Way.MIXED, Way.WHOLE),
            mixed_length=not last_only,
            one_row=ports.one_row or way is Way.SINGLE,
            cells=cells,
            slots=max(1, PAST_BYTES // max(1, ports.slot_bytes)),
            n_ctx=n_ctx,
            first_branches=PLACES not in ports.types,  # the operator counts positions itself where there is no past
        )
        self._trunk: tuple[int, ...] = ()
        self._state: list[Piece] = []

    @property
    def reuse(self) -> str:
        """How rows share a run, in words."""
        return f"{self.way.value}, branches in one row" if self.branches else self.way.value

    def hold(self, trunk: tuple[int, ...]) -> None:
        """Compute the trunk from nothing, in slices, and keep its keys and values; nothing to do if held."""
        if trunk == self._trunk:
            return
        before: list[Piece] = []
        if self._strict:  # what both have up to a border was computed in the same slices: it may stay
            before = cut(self._state, common_prefix(trunk, self._trunk) // STRICT_SLICE * STRICT_SLICE)
        self.adopt((), [])
        self.adopt(trunk, self.read(trunk, before) if self.way is not Way.WHOLE else [])

    def read(self, tokens: tuple[int, ...], before: Sequence[Piece] = ()) -> list[Piece]:
        """Keys and values of a sequence, computed alone and in slices; ``before`` holds those of its beginning."""
        begin = length_of(before)
        past = self.buffers.gather([before], begin)
        step = STRICT_SLICE if self._strict else self.slice
        presents: list[Value] = []
        for start in range(begin, len(tokens), step):
            ids = np.array([tokens[start : start + step]])
            end = start + ids.shape[1]
            positions = np.arange(start, end)[None]
            given = self.binding.run(ids, positions, np.ones((1, end)), past, presents=True)
            past = presents = given.presents
        if not presents:
            return list(before)
        return [*before, copy_row([self.binding.host(p) for p in presents], 0, begin, len(tokens))]

    def adopt(self, trunk: tuple[int, ...], state: list[Piece]) -> None:
        """Make a sequence that was computed elsewhere the trunk: its tokens, and their keys and values."""
        self._trunk, self._state = trunk, state

    def compute(self, tree: TokenTree, wanted: Wanted) -> NDArray[np.float64]:
        """Log-probabilities of ``wanted``, in nats, after the held trunk."""
        asked: dict[int, list[int]] = {}
        for i, (node, _) in enumerate(wanted):
            asked.setdefault(node, []).append(i)
        result = np.full(len(wanted), np.nan)
        places: Places = {}
        for level in self._levels(tree, asked):
            for batch in batches(level, self.shape):
                self._compute_batch(batch, asked, wanted, result, places)
        require_finite(result)
        return result

    def _levels(self, tree: TokenTree, asked: dict[int, list[int]]) -> list[list[Row]]:
        if self.way is Way.WHOLE:
            return [whole_rows(tree, self._trunk, sorted(asked) if self.last_only else tree.leaves)]
        levels = chains(tree, self.slice, set(asked) if self.last_only else frozenset())
        return bushes(levels, self.slice, self.shape) if self.branches else levels

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
        past = max(r.past for r in batch)
        keep = max(r.keep for r in batch)
        past_values = self._past(batch, past, places)
        given = self.run_rows(batch, past, past_values, reads=lines or None, presents=keep > 0)
        if keep:
            presents = [self.binding.host(p) for p in given.presents]
            own = [np.ascontiguousarray(p[..., past : past + keep, :]) for p in presents]
            for i, row in enumerate(batch):
                kept = [o[..., i, :, :, :] for o in own]
                for offset, node in enumerate(row.nodes[: row.keep]):
                    places[node] = row.parent, kept, offset
        if given.logits is not None:
            logits = given.logits.astype(np.float32, copy=False)
            targets = [i for indices in picks for i in indices]
            tokens = np.array([wanted[i][1] for i in targets], dtype=np.intp)
            lengths = [len(indices) for indices in picks]
            rows = np.repeat(np.arange(len(picks)), lengths)
            result[targets] = gather_logprobs(logits, rows, tokens, threads=self._threads)

    def run_rows(
        self,
        batch: Sequence[Row],
        past: int,
        values: Sequence[Value],
        *,
        reads: Reads | None = None,
        presents: bool = False,
    ) -> Given:
        """One run of rows after ``values``, a past of ``past`` slots whose ends are gaps for shorter rows."""
        length = max(len(r.tokens) for r in batch)
        # Rows are filled up at their end, with their last token again: nothing before can see it.
        ids = np.array([_filled_up(r.tokens, length) for r in batch])
        starts = np.array([[r.past] for r in batch])
        positions = starts + np.array([_filled_up(r.offsets, length) for r in batch])
        mask = np.ones((len(batch), past + length), np.bool_)
        mask[:, :past] = np.arange(past)[None] < starts
        seen = np.array([r.seen(length) for r in batch]) if any(r.before for r in batch) else None
        return self.binding.run(ids, positions, mask, values, reads=reads, seen=seen, presents=presents)

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

    def _past(self, batch: Sequence[Row], slots: int, places: Places) -> list[Value]:
        """Keys and values before each row, from the trunk and the rows it continues."""
        state = self._state if self.way is not Way.WHOLE else []
        return self.buffers.gather([self._pieces(row, places) for row in batch], slots, state)

    def _pieces(self, row: Row, places: Places) -> list[Piece]:
        """What stands between the trunk and a row, in order."""
        parts, node = [], row.parent
        while node >= 0:
            node, kept, offset = places[node]
            parts.append(Piece(kept, offset + 1))
        return parts[::-1]


def _filled_up(numbers: Sequence[int], length: int) -> list[int]:
    """With the last one again up to a length."""
    return [*numbers, *[numbers[-1]] * (length - len(numbers))]
