"""How much memory there is for a model: what the system says is free, or what the user says may be used."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from cultev.errors import UsageError

LIMIT_VARIABLE = "CULTEV_MEMORY_MB"
"""Environment variable: MB (10^6 bytes) that an engine may take, whatever is free; for machines that are shared."""

_CGROUP_UNLIMITED = 1 << 60
"""cgroup v1 says 'no limit' with a number about this large."""


def usable_memory() -> int | None:
    """Bytes that an engine may take: what LIMIT_VARIABLE says, else ``available_memory``.

    Raises:
        UsageError: the variable is set to something else than a positive number.
    """
    words = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not words:
        return available_memory()
    try:
        megabytes = float(words)
    except ValueError:
        megabytes = 0.0
    if not 0 < megabytes < 1e12:
        raise UsageError(f"{LIMIT_VARIABLE} is '{words}', which is no number of MB.", f"Such as {LIMIT_VARIABLE}=4000")
    return int(megabytes * 1e6)


def gpu_memory() -> int | None:
    """Bytes free on the first NVIDIA GPU by nvidia-smi, or None where that doesn't tell."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "--query-gpu=memory.free", "--format=csv,noheader,nounits", "--id=0"],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        return int(float(done.stdout.split()[0]) * 2**20)
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None  # likewise


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
