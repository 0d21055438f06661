"""How much memory a model will take, before it is loaded, and how much this machine has left.

All sizes are bytes. A plan is an upper bound by formula, not a measurement: engines allocate some of it and
never touch it, and pages of a mapped GGUF file can be dropped again. It leaves out what the program itself has
already taken, since that is no longer free.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cultev.backend.gguf_header import GgufHeader
from cultev.backend.prefix import Limits

_REPACKED = ("Q4_0", "Q4_K", "Q2_K", "IQ4_NL")
"""Tensor types that llama.cpp's CPU engine may keep a second time, laid out for the processor."""

_CELLS = 256
"""llama.cpp rounds its cache up to a multiple of this many tokens."""

_CGROUP_UNLIMITED = 1 << 60
"""cgroup v1 says 'no limit' with a number about this large."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes that running a model takes, by what they are for."""

    weights: int
    kv_cache: int
    """Keys and values of the tokens in the context."""
    logits: int
    """Rows of vocabulary width that are read out."""
    working: int
    """Activations of one batch."""

    @property
    def total(self) -> int:
        """All of it, in bytes."""
        return self.weights + self.kv_cache + self.logits + self.working

    @property
    def total_mb(self) -> float:
        """All of it, in MB (10^6 bytes)."""
        return self.total / 1e6

    def fits(self, available: int | None) -> bool | None:
        """Whether ``available`` bytes are enough; None where that is unknown."""
        return None if available is None else self.total <= available


def plan_gguf(header: GgufHeader, *, n_ctx: int, n_seq: int = 1, limits: Limits | None = None) -> MemoryPlan:
    """What llama.cpp takes on the CPU.

    With B tokens a batch (``limits.tokens``), V = vocabulary, E = width, F = feed-forward width::

        cells    = n_seq * n_ctx + B + leaves + 1, rounded up to 256
        weights  = file + bytes of the tensors that may be kept a second time (Q4_0, Q4_K, Q2_K, IQ4_NL)
        kv_cache = cells * 2 * sum over layers of kv_heads * (d_k + d_v)                    f16
        logits   = 4 * V * max(reads, leaves + 1)                                           f32
        working  = 4 * B * (V + 2 E + F + cells)      f32: a whole batch's logits, activations, the mask

    Args:
        header: from ``read_gguf``.
        n_ctx: longest prompt + continuation, in tokens.
        n_seq: sequences with a context of their own; 1 where branches share one cache, as cultev runs them.
        limits: what one pack may hold; the planner's defaults when None.
    """
    limits = limits or Limits()
    batch, leaves = limits.tokens, limits.leaves + 1
    cells = -(-(n_seq * n_ctx + batch + leaves) // _CELLS) * _CELLS
    again = sum(size for kind, (_, size) in header.tensor_types.items() if kind in _REPACKED)
    ffn = header.number(f"{header.architecture}.feed_forward_length")
    return MemoryPlan(
        weights=header.file_bytes + again,
        kv_cache=cells * header.kv_bytes_per_token,
        logits=4 * header.n_vocab * max(limits.reads, leaves),
        working=4 * batch * (header.n_vocab + 2 * header.n_embd + ffn + cells),
    )


def plan_onnx(
    file_bytes: int,
    n_layers: int,
    kv_heads: int,
    head_dim: int,
    n_vocab: int,
    *,
    n_ctx: int,
    n_seq: int = 1,
    limits: Limits | None = None,
    n_embd: int = 0,
    ffn: int = 0,
    kv_bytes: int = 4,
    logits_budget: int = 0,
) -> MemoryPlan:
    """What onnxruntime takes on the CPU.

    With T tokens a run (``limits.tokens``), R = ``n_seq`` rows of up to ``n_ctx`` tokens::

        weights  = 2 * files                     the graph as read, and the matrices laid out for the processor
        kv_cache = 2 * R * n_ctx * layers * 2 * kv_heads * head_dim * kv_bytes        past and present at once
        logits   = 4 * V * T, or ``logits_budget`` where runs are cut to stay below it
        working  = 4 * T * (4 E + 2 F)

    Args:
        file_bytes: graph and external weights together.
        n_layers: decoder layers.
        kv_heads: heads of keys and values.
        head_dim: width of a head.
        n_vocab: width of the logits.
        n_ctx: longest prompt + continuation, in tokens.
        n_seq: rows computed at once.
        limits: what one pack may hold; the planner's defaults when None.
        n_embd: width of the residual stream; 0 where unknown.
        ffn: width of the feed-forward layers; 0 where unknown.
        kv_bytes: bytes of one number in the cache: 4 (float32) or 2 (float16).
        logits_budget: most bytes of logits that one run gives; 0: no such limit.
    """
    tokens = (limits or Limits()).tokens
    logits = 4 * n_vocab * tokens
    return MemoryPlan(
        weights=2 * file_bytes,
        kv_cache=2 * n_seq * n_ctx * n_layers * 2 * kv_heads * head_dim * kv_bytes,
        logits=min(logits, max(logits_budget, 4 * n_vocab)) if logits_budget else logits,
        working=4 * tokens * (4 * n_embd + 2 * ffn),
    )


def available_memory() -> int | None:
    """Bytes that new work may take without swapping, or None where this system doesn't tell.

    Linux: the least of MemAvailable and what is left under the process's cgroup limits (containers).
    macOS: free, inactive and speculative pages. Windows: available physical memory.
    """
    try:
        if sys.platform == "win32":
            return _windows()
        if sys.platform == "darwin":
            return _macos()
        return linux_memory(Path("/"))
    except (OSError, ValueError, AttributeError, subprocess.SubprocessError):
        return None  # a number for people to plan by: no reason to fail


def linux_memory(root: Path) -> int | None:
    """``available_memory`` of the Linux system whose /proc and /sys lie under ``root``."""
    found = []
    if (meminfo := _read(root / "proc/meminfo")) and (line := re.search(r"MemAvailable:\s+(\d+) kB", meminfo)):
        found.append(int(line[1]) * 1024)
    found.extend(_cgroup_rooms(root))
    return min(found) if found else None


def _cgroup_rooms(root: Path) -> list[int]:
    """Bytes left under each memory limit that holds for this process: its own cgroup's and those above."""
    rooms = []
    mount = root / "sys/fs/cgroup"
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = [*line.split(":", 2), "", ""][:3]
        if controllers == "":  # version 2
            base, limit_name, used_name = mount, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            base, limit_name, used_name = mount / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        # Inside a container the path is often the host's, and what is mounted is the container's own group.
        parts = [part for part in group.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            folder = base.joinpath(*parts[:depth])
            limit, used = _read(folder / limit_name), _read(folder / used_name)
            if limit and used and limit.strip().isdigit() and int(limit) < _CGROUP_UNLIMITED:
                rooms.append(max(0, int(limit) - int(used) + _reclaimable(folder)))
    return rooms


def _reclaimable(folder: Path) -> int:
    """File pages that count as used and are given up when needed."""
    line = re.search(r"^(?:total_)?inactive_file (\d+)$", _read(folder / "memory.stat") or "", re.MULTILINE)
    return int(line[1]) if line else 0


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None


def parse_vm_stat(text: str) -> int | None:
    """Bytes available by what macOS's vm_stat prints, or None when it prints something else."""
    page = re.search(r"page size of (\d+) bytes", text)
    pages = re.findall(r"^Pages (?:free|inactive|speculative):\s+(\d+)\.", text, re.MULTILINE)
    return int(page[1]) * sum(map(int, pages)) if page and pages else None


def _macos() -> int | None:
    done = subprocess.run(["/usr/bin/vm_stat"], capture_output=True, text=True, timeout=5, check=True)
    return parse_vm_stat(done.stdout)


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("dwLength", ctypes.c_uint32),
        ("dwMemoryLoad", ctypes.c_uint32),
        ("ullTotalPhys", ctypes.c_uint64),
        ("ullAvailPhys", ctypes.c_uint64),
        ("ullTotalPageFile", ctypes.c_uint64),
        ("ullAvailPageFile", ctypes.c_uint64),
        ("ullTotalVirtual", ctypes.c_uint64),
        ("ullAvailVirtual", ctypes.c_uint64),
        ("ullAvailExtendedVirtual", ctypes.c_uint64),
    )


def _windows() -> int | None:
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - the name exists on Windows only
    status = _MemoryStatus(dwLength=ctypes.sizeof(_MemoryStatus))
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.ullAvailPhys)
