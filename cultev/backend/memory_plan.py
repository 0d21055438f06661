"""How much memory a model will take, before it is loaded: weights, cache, logits, working space.

All sizes are bytes of resident memory, as the system counts them for the engine's process. Parts that llama.cpp and
onnxruntime allocate by formula are planned by that formula. What none gives (libraries, a tokenizer's tables, pieces
of an arena that stay unused) was measured on Linux, and says so. ``tools/bench_plan.py`` compares plans with peaks.

A plan is for a context that is used to the full: questions that are much shorter take less on onnxruntime, whose
caches grow with them; llama.cpp makes its cache before the first question.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

from cultev.backend.gguf_header import GgufHeader
from cultev.backend.llama_context import BATCH_TOKENS, CELLS
from cultev.backend.llama_reuse import COPY, RESTORE
from cultev.backend.llama_sizes import FOLLOW_LEAVES, PARALLEL, Sizes, generating_sizes, scoring_sizes
from cultev.backend.logprobs import logits_limit
from cultev.backend.onnx_past import GROWTH
from cultev.backend.onnx_resident import RESIDENT_BYTES
from cultev.backend.onnx_rows import MAX_ROWS
from cultev.backend.onnx_sequences import cells_for
from cultev.backend.onnx_tree import LOGITS_BYTES, PAST_BYTES, SLICE

GGUF_PROCESS = 53_000_000
"""Python, numpy, cultev, jinja and llama.cpp's libraries, nothing loaded: measured."""

ONNX_PROCESS = 78_000_000
"""The same with onnxruntime and tokenizers, and a session of a graph without weights: measured."""

GGUF_TOKEN = 420
"""What llama.cpp's tables of a byte-level vocabulary and its merges take per token: measured at 49,152 and 151,936."""

TOKENIZER_FACTOR = 9
"""What a loaded tokenizer takes, in sizes of its tokenizer.json: measured."""

BLOCK = 14
"""What onnxruntime keeps for a block of packed weights beyond the file: measured with 4 and 8 bits in blocks of 32."""

READ_SHARE = 32
"""Slots of rows with a past for each whose logits smaller runs read: measured, with options of 2 to 64 tokens."""

MOST_SEQUENCES = 256
"""llama.cpp's limit in the builds that are published."""

GATHER_BYTES = 8 * 2**20
"""Memory that logits are turned into log-probabilities in: a row for each thread (``logprobs.gather_logprobs``)."""

NODE = 960
"""What llama.cpp keeps ready for a node of a graph, filled or not: measured at 20,480 nodes."""

_REPACKED = frozenset({"Q4_0", "Q4_K", "Q2_K", "IQ4_NL"})
_REPACKED_ARM = _REPACKED | {"Q5_K", "Q6_K", "Q8_0"}
"""Tensor types that llama.cpp's CPU engine keeps a second time, laid out for the processor (ggml-cpu/repack.cpp)."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes that running a model takes at its peak, by what they are for."""

    weights: int
    """With the vocabulary's tables and what is kept a second time, laid out for the processor."""
    kv_cache: int
    """Keys and values of the tokens in the context, or recurrent states."""
    logits: int
    """Rows of vocabulary width that are read out, and their copies."""
    working: int
    """Activations of one batch, attention's masks and scores."""
    process: int = 0
    """The process itself: Python and the engine's libraries."""
    droppable: int = 0
    """Of the weights: file pages that are read once, while loading. They count as resident, and the system takes them
    back as soon as something else needs room."""
    device: int = 0
    """Of weights, cache, logits and working space: what lies on the GPU. By formula only, never measured."""

    @property
    def total(self) -> int:
        """The peak of the process's resident memory and of the GPU's, together."""
        return self.process + self.weights + self.kv_cache + self.logits + self.working

    @property
    def needed(self) -> int:
        """What must be free: without the pages that can be dropped and without what lies on the GPU."""
        return self.total - self.droppable - self.device

    @property
    def total_mb(self) -> float:
        """All of it, in MB (10^6 bytes)."""
        return self.total / 1e6

    def fits(self, available: int | None) -> bool | None:
        """Whether ``available`` bytes are enough; None where that is unknown."""
        return None if available is None else self.needed <= available


def plan_gguf(
    header: GgufHeader,
    *,
    n_ctx: int,
    batch: int = BATCH_TOKENS,
    parallel: int = PARALLEL,
    generate: bool = False,
    strict: bool = False,
    reuse: str = "auto",
    gpu: bool = False,
) -> MemoryPlan:
    """What llama.cpp takes.

    With V = vocabulary, E = width, F = feed-forward width, B = ``batch``, and of the context (``llama_sizes``) C
    cells, S sequences, R rows of logits::

        weights  = file + the tensors kept a second time + 420 V
        kv_cache = C * 2 * sum over layers of kv_heads * (d_k + d_v) + S * state        f16, and f32 states
        logits   = 4 V R + two blocks of 4 MiB                                          f32
        working  = max(4 V R, 4 B (2 F + 3 E) + 6 B min(C, N + B))      logits again, where activations and the mask
                                                                        (f32 and f16, N = ``n_ctx``) were
                                                                        (2 F + 3 E, or 7 times a recurrent layer's
                                                                        width where that is more: measured)
                   + S * state of a layer, twice for delta nets         what its graph gathers, and puts out anew
                   + of delta nets 38400 B, twice if generating         room for a graph of 40 B nodes

    Scoring and generating have a context each, one at a time: the plan is for the larger.

    Args:
        header: from ``read_gguf``.
        n_ctx: longest prompt + continuation, in tokens.
        batch: tokens of one decode call.
        parallel: texts that grow at once.
        generate: whether texts are generated too.
        strict: see ``EngineSettings``.
        reuse: likewise.
        gpu: whether the layers go to a GPU.
    """
    state = _state_bytes(header)
    way = reuse if reuse != "auto" else RESTORE if state else COPY
    limit = min(logits_limit(header.n_vocab), batch)
    score = scoring_sizes(
        way, n_ctx=n_ctx, batch=batch, outputs=limit, state_bytes=state, moves_states=not state
    )  # fmt: skip
    contexts = [(score, limit)]
    if generate:
        sizes = generating_sizes(
            way, n_ctx=n_ctx, batch=batch, parallel=1 if strict else parallel, outputs=limit,
            kv_bytes=header.kv_bytes_per_token, state_bytes=state, most=MOST_SEQUENCES,
        )  # fmt: skip
        # A follow-up reads a few rows for each branch, never as many as there is room for.
        contexts.append((sizes, min(limit, sizes.slots + FOLLOW_LEAVES)))
    cache, logits, working = max(
        (_context(header, sizes, rows, batch, n_ctx, state) for sizes, rows in contexts), key=sum
    )
    if _has_delta_nets(header):
        # 40 nodes a token (llama_context::graph_max_nodes); malloc keeps the first context's when it is closed.
        working += (2 if generate else 1) * NODE * 40 * batch
    again = _kept_twice(header)
    tables = GGUF_TOKEN * header.n_vocab
    on_gpu = header.file_bytes + cache + working if gpu else 0
    return MemoryPlan(
        weights=header.file_bytes + tables + (0 if gpu else again),
        kv_cache=cache,
        logits=logits,
        working=working,
        process=GGUF_PROCESS,
        droppable=0 if gpu else again,
        device=on_gpu,
    )


def _context(header: GgufHeader, sizes: Sizes, rows: int, batch: int, n_ctx: int, state: int) -> tuple[int, int, int]:
    """Cache, logits and working space of one context."""
    cells = -(-sizes.cells // CELLS) * CELLS
    of = header.architecture
    experts = header.number(f"{of}.expert_used_count") * header.number(f"{of}.expert_feed_forward_length")
    ffn = max(header.number(f"{of}.feed_forward_length"), experts)
    read = 4 * header.n_vocab * rows
    widths = max(2 * ffn + 3 * header.n_embd, 7 * header.number(f"{of}.ssm.inner_size"))
    activations = 4 * batch * widths + 6 * batch * min(cells, n_ctx + batch)
    layers = len(header.recurrent_layers) or header.n_layers
    # A delta net's operator gives the new states together with its output; the others write them in place.
    states = (2 if _has_delta_nets(header) else 1) * sizes.sequences * state // max(1, layers)
    return (
        cells * header.kv_bytes_per_token + sizes.sequences * state,
        read + min(GATHER_BYTES, 2 * read),
        max(read, activations) + states,
    )


def _has_delta_nets(header: GgufHeader) -> bool:
    """Whether layers are gated delta nets (Qwen3-Next and Qwen3.5, Kimi Linear)."""
    return any(t.name.endswith((".ssm_beta.weight", ".ssm_ba.weight")) for t in header.tensors)


def _kept_twice(header: GgufHeader) -> int:
    """Bytes of the tensors that the CPU engine lays out anew, leaving the mapped original behind.

    The token embedding is only looked up in, so it stays, unless it serves as the output matrix too.
    """
    kinds = _REPACKED_ARM if platform.machine().lower() in ("arm64", "aarch64") else _REPACKED
    tied = all(tensor.name != "output.weight" for tensor in header.tensors)
    return sum(t.n_bytes for t in header.tensors if t.type in kinds and (tied or t.name != "token_embd.weight"))


def _state_bytes(header: GgufHeader) -> int:
    """Bytes of one sequence's recurrent state, 0 for models of attention alone.

    Per recurrent layer and in f32, as llama.cpp's hparams (n_embd_r + n_embd_s) count them: Mamba's and delta nets'
    (kernel - 1) * (inner + 2 groups * state) + state * inner, RWKV's shifts * E + E * head size, short convolutions'
    (length - 1) * E.
    """
    of, width = header.architecture, header.n_embd
    inner, state = header.number(f"{of}.ssm.inner_size"), header.number(f"{of}.ssm.state_size")
    if inner:
        groups = header.number(f"{of}.ssm.group_count")
        kernel = max(1, header.number(f"{of}.ssm.conv_kernel"))
        numbers = (kernel - 1) * (inner + 2 * groups * state) + state * inner
    elif head := header.number(f"{of}.wkv.head_size"):
        numbers = (header.number(f"{of}.token_shift_count") or 2) * width + width * head
    elif length := header.number(f"{of}.shortconv.l_cache"):
        numbers = (length - 1) * width
    else:
        return 0
    return 4 * numbers * (len(header.recurrent_layers) or header.n_layers)


def plan_onnx(
    file_bytes: int,
    n_layers: int,
    kv_heads: int,
    head_dim: int,
    n_vocab: int,
    *,
    n_ctx: int,
    heads: int = 0,
    n_embd: int = 0,
    ffn: int = 0,
    tokenizer_bytes: int = 0,
    kv_bytes: int = 4,
    picks: bool = False,
    fused: bool = False,
    batch: int = 2 * SLICE,
    parallel: int = PARALLEL,
    generate: bool = False,
    gpu: bool = False,
    halves: int = 0,
    blocks: int = 0,
) -> MemoryPlan:
    """What onnxruntime takes.

    With V = vocabulary, E = width, F = feed-forward width, H = heads, d = their width, T = ``batch``, N = ``n_ctx``,
    s = layers * 2 * kv_heads * d * kv_bytes, the keys and values of a token, P = min(PAST_BYTES, 64 N s), but N s at
    least (fused attention takes 1 row for 64), and R = the reads of a pack::

        weights  = 1.05 * files + 9 * tokenizer.json    what products lay out anew takes the place of what was read
                   + 2 * halves                         float16, computed with on a CPU as float32
                   + 14 * blocks                        packed weights: scales and sums, laid out anew (measured)
        kv_cache = N s                                  what questions share
                   + P                                  the rows' past, whose memory is kept
                   + the larger of
                     scoring     min(T s, P)            what a pack's later rows continue
                     generating  2 min(RESIDENT_BYTES, texts (N + GROWTH) s)        past and continuation, of as many
                                                                                    texts as CACHE_BYTES hold
        logits   = 4 V R + two blocks of 4 MiB
                   + 4 V min(R, PAST_BYTES / 32 s)      smaller runs', which the arena keeps room for; both 2.5 times
                                                        where they are float16, and widened
                   where the graph gives all positions' logits 3 min(LOGITS_BYTES, 4 V T) instead: copied (measured)
        working  = 4 T (4 E + 3 F)
                   + of attention by plain operators 12 H min(512, T, N) N      scores, masked, softmax
                     of fused attention 5 min(512, T, N) N                      who sees whom, as numbers
                   + 8 H d times the rows' slots                                one layer's past, for all heads
                   + what max(2 N s, P) has beyond the logits   the continuation of a past: where many logits are
                                                                read none is asked for, the arena gives both one room

    Loading takes the weights, and beside them as much as was read of float16 (1.1 times) and about two thirds of
    packed ones (measured). That has gone before the first question; where it is more than what comes then, the
    difference counts as working.

    Args:
        file_bytes: graph and external weights together.
        n_layers: decoder layers.
        kv_heads: heads of keys and values.
        head_dim: width of a head.
        n_vocab: width of the logits.
        n_ctx: longest prompt + continuation, in tokens.
        heads: attention heads; ``kv_heads`` where unknown.
        n_embd: width of the residual stream; 0 where unknown.
        ffn: width of the feed-forward layers; 0 where unknown.
        tokenizer_bytes: of tokenizer.json.
        kv_bytes: bytes of one number in the cache: 4 (float32) or 2 (float16).
        picks: whether the graph computes logits only where they are read (``onnx_head``).
        fused: whether attention is one operator (GroupQueryAttention), which holds neither scores nor repeated heads.
        batch: tokens of one pack.
        parallel: texts that grow at once.
        generate: whether texts are generated too.
        gpu: whether the graph runs on a GPU.
        halves: see ``GraphFacts``.
        blocks: likewise.
    """
    slot = max(1, n_layers * 2 * kv_heads * head_dim * kv_bytes)
    rows = max(n_ctx * slot, min(PAST_BYTES, (1 if fused else MAX_ROWS) * n_ctx * slot))
    texts = min(parallel, cells_for(n_ctx, slot) // n_ctx) if generate else 0
    growing = min(RESIDENT_BYTES, texts * (n_ctx + GROWTH) * slot)
    cache = n_ctx * slot + rows + max(min(batch * slot, rows), 2 * growing)
    most = logits_limit(n_vocab)
    read = 4 * n_vocab * most
    logits = read
    if picks:
        logits += 4 * n_vocab * min(most, PAST_BYTES // slot // READ_SHARE)
        logits = logits * 5 // 2 if kv_bytes == 2 else logits
    else:
        logits += 3 * max(4 * n_vocab, min(LOGITS_BYTES, 4 * n_vocab * batch))
    working = 4 * batch * (4 * n_embd + 3 * ffn) + max(0, max(2 * n_ctx * slot, rows) - logits)
    logits += min(GATHER_BYTES, 2 * read)
    pairs = min(SLICE, batch, n_ctx) * n_ctx
    if fused:
        working += 5 * pairs
    else:
        heads = heads or kv_heads
        working += 12 * heads * pairs + 8 * heads * head_dim * (max(rows, growing) // slot)
    widened = 0 if gpu else 2 * halves
    weights = file_bytes * 21 // 20 + widened + BLOCK * blocks + TOKENIZER_FACTOR * tokenizer_bytes
    loading = widened * 11 // 10 + (file_bytes * 2 // 3 if blocks else 0)
    working += max(0, loading - cache - logits - working)
    return MemoryPlan(
        weights=weights,
        kv_cache=cache,
        logits=logits,
        working=working,
        process=ONNX_PROCESS,
        device=file_bytes + cache + working if gpu else 0,
    )
