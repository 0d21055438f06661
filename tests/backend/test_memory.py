"""The memory plan's arithmetic, and what each system says is free."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cultev.backend import memory
from cultev.backend.gguf_header import GgufHeader, TensorInfo
from cultev.backend.memory import MemoryPlan, available_memory, linux_memory, parse_vm_stat, plan_gguf, plan_onnx
from cultev.backend.prefix import Limits

GIB = 1 << 30


def qwen() -> GgufHeader:
    """Qwen2.5-0.5B's numbers, with one tensor that llama.cpp keeps twice."""
    of = "qwen2"
    return GgufHeader(
        path=Path("m.gguf"),
        version=3,
        metadata={
            "general.architecture": of,
            f"{of}.block_count": 24,
            f"{of}.embedding_length": 896,
            f"{of}.feed_forward_length": 4_864,
            f"{of}.attention.head_count": 14,
            f"{of}.attention.head_count_kv": 2,
            f"{of}.vocab_size": 151_936,
        },
        tensors=(TensorInfo("a", (256, 10), "Q4_K", 0, 1_440), TensorInfo("b", (256, 10), "Q6_K", 1_440, 2_100)),
        alignment=32,
        file_bytes=400_000_000,
        expected_bytes=400_000_000,
        parts=(Path("m.gguf"),),
    )


def test_gguf_plan() -> None:
    plan = plan_gguf(qwen(), n_ctx=4_096, limits=Limits(tokens=512, leaves=63, reads=110))
    assert plan.weights == 400_000_000 + 1_440
    assert plan.kv_cache == 4_864 * 12_288  # 57 MiB, as llama.cpp reports for this model and context
    assert plan.logits == 110 * 151_936 * 4
    # llama.cpp reports 300.25 MiB; this is an upper bound, within a sixth
    assert 300.25 * 2**20 <= plan.working <= 350 * 2**20
    assert plan.total == plan.weights + plan.kv_cache + plan.logits + plan.working
    assert plan.total_mb == pytest.approx(plan.total / 1e6)


def test_gguf_plan_grows_with_context_and_sequences() -> None:
    short, long = (plan_gguf(qwen(), n_ctx=n) for n in (1_024, 8_192))
    assert short.kv_cache < long.kv_cache and short.weights == long.weights
    assert plan_gguf(qwen(), n_ctx=1_024, n_seq=4).kv_cache > 2 * short.kv_cache


def test_onnx_plan() -> None:
    plan = plan_onnx(80_000_000, 8, 4, 64, 32_000, n_ctx=2_048, n_seq=3, limits=Limits(tokens=1_024))
    assert plan.weights == 160_000_000
    assert plan.kv_cache == 2 * 3 * 2_048 * 8 * 2 * 4 * 64 * 4
    assert plan.logits == 4 * 32_000 * 1_024
    assert plan.working == 0
    small = plan_onnx(
        80_000_000, 8, 4, 64, 32_000, n_ctx=2_048, logits_budget=1_000_000, kv_bytes=2, n_embd=512, ffn=2_048
    )
    assert small.logits == 1_000_000
    assert small.kv_cache * 6 == plan.kv_cache
    assert small.working == 4 * Limits().tokens * (4 * 512 + 2 * 2_048)


def test_fits() -> None:
    plan = MemoryPlan(1, 2, 3, 4)
    assert plan.fits(10) is True
    assert plan.fits(9) is False
    assert plan.fits(None) is None


def test_this_machine() -> None:
    free = available_memory()
    assert free is None or 1e6 < free < 1e14


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OSError("no")

    for name in ("linux_memory", "_macos", "_windows"):
        monkeypatch.setattr(memory, name, fail)
    assert available_memory() is None


def fake_linux(root: Path, group: str, files: dict[str, str]) -> Path:
    files = {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    8388608 kB\n", "proc/self/cgroup": group, **files}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_linux_without_limits(tmp_path: Path) -> None:
    assert linux_memory(fake_linux(tmp_path, "0::/user.slice\n", {})) == 8 * GIB
    assert linux_memory(tmp_path / "nothing") is None


def test_cgroup_2_takes_the_tightest_limit_above(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/a"
    files = {
        f"{base}/memory.max": str(2 * GIB),
        f"{base}/memory.current": str(GIB + 100),
        f"{base}/memory.stat": "anon 5\ninactive_file 100\n",
        f"{base}/b/memory.max": "max\n",
        f"{base}/b/memory.current": "5\n",
    }
    assert linux_memory(fake_linux(tmp_path, "0::/a/b\n", files)) == GIB


def test_cgroup_1(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/memory"
    files = {
        f"{base}/memory.limit_in_bytes": "9223372036854771712",
        f"{base}/memory.usage_in_bytes": "5",
        f"{base}/docker/x/memory.limit_in_bytes": str(GIB),
        f"{base}/docker/x/memory.usage_in_bytes": str(2 * GIB),
    }
    group = "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n"
    assert linux_memory(fake_linux(tmp_path, group, files)) == 0


def test_a_container_sees_its_own_group_at_the_mount(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/memory.max": str(GIB), "sys/fs/cgroup/memory.current": "0"}
    assert linux_memory(fake_linux(tmp_path, "0::/../../host/path\n", files)) == GIB


VM_STAT = """Mach Virtual Memory Statistics: (page size of 16384 bytes)
Pages free:                               10000.
Pages active:                            200000.
Pages inactive:                           30000.
Pages speculative:                         2000.
Pages throttled:                              0.
"""


def test_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_vm_stat(VM_STAT) == 16_384 * 42_000
    assert parse_vm_stat("no such thing") is None
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(stdout=VM_STAT))
    assert available_memory() == 16_384 * 42_000


def test_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    def status(pointer: Any) -> int:
        found = pointer._obj
        assert found.dwLength == 64 == ctypes.sizeof(found)
        found.ullAvailPhys = 3 * GIB
        return 1

    kernel = SimpleNamespace(GlobalMemoryStatusEx=status)
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=kernel), raising=False)
    monkeypatch.setattr(sys, "platform", "win32")
    assert available_memory() == 3 * GIB
    kernel.GlobalMemoryStatusEx = lambda pointer: 0
    assert available_memory() is None
