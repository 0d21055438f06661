"""What each system says is free, and what a user says may be used."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cultev.backend import memory
from cultev.backend.memory import (
    LIMIT_VARIABLE,
    available_memory,
    gpu_memory,
    linux_memory,
    parse_vm_stat,
    usable_memory,
)
from cultev.errors import UsageError

GIB = 1 << 30


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


def test_the_variable_says_what_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, "1500.5")
    assert usable_memory() == 1_500_500_000
    monkeypatch.setenv(LIMIT_VARIABLE, " ")
    monkeypatch.setattr(memory, "available_memory", lambda: 7)
    assert usable_memory() == 7


@pytest.mark.parametrize("words", ["much", "0", "-5", "nan", "inf"])
def test_a_variable_that_is_no_number(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, words)
    with pytest.raises(UsageError, match=LIMIT_VARIABLE):
        usable_memory()


def test_gpu_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory.shutil, "which", lambda name: None)
    assert gpu_memory() is None
    monkeypatch.setattr(memory.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(stdout="2048\n"))
    assert gpu_memory() == 2 * GIB
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: SimpleNamespace(stdout="[N/A]\n"))
    assert gpu_memory() is None
