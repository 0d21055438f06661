"""What this machine offers: engines, processor, accelerators."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path

ENGINES = {
    "llama-cpp-python": "gguf",
    "onnxruntime": "onnx",
    "onnxruntime-gpu": "gpu",
    "tokenizers": "onnx",
    "jinja2": "onnx",
}
"""Packages that engines need, and the extra that brings each."""

CPU_FEATURES = (
    "avx",
    "avx2",
    "f16c",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx_vnni",
    "amx_int8",
    "neon",
    "asimd",
    "sve",
)
"""Instruction sets that decide how fast quantized models run, as Linux names them."""


def engine_versions() -> dict[str, str]:
    """Package -> installed version, '' when it is absent."""
    versions = {}
    for package in ENGINES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = ""
    return versions


def cpu_name() -> str:
    """The processor's name, as far as the system tells."""
    info = _proc_cpuinfo()
    return info.get("model name") or platform.processor() or platform.machine()


def cpu_features() -> tuple[str, ...]:
    """Those of CPU_FEATURES that this processor has; () where the system does not tell (not Linux)."""
    info = _proc_cpuinfo()
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return tuple(name for name in CPU_FEATURES if name in flags)


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def physical_cores() -> int:
    """Cores this process may use, not counting a core's second thread where the system tells them apart."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cores = set()
    for cpu in os.sched_getaffinity(0):
        try:
            cores.add(Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            cores.add(str(cpu))
    return len(cores)


def peak_memory() -> int | None:
    """Bytes of memory that this process has held at most, resident; None where the system doesn't tell."""
    try:
        if sys.platform == "win32":
            return _windows_peak()
        status = Path("/proc/self/status")
        if status.exists():  # getrusage counts what the program that started this one held, too
            line = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.MULTILINE)
            return int(line[1]) * 1024 if line else None
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    except (OSError, ValueError, AttributeError, ImportError):
        return None  # a number for people: no reason to fail


class _Counters(ctypes.Structure):
    """PROCESS_MEMORY_COUNTERS of the Windows API."""

    _fields_ = (
        ("cb", ctypes.c_uint32),
        ("PageFaultCount", ctypes.c_uint32),
        ("PeakWorkingSetSize", ctypes.c_size_t),
        ("WorkingSetSize", ctypes.c_size_t),
        ("QuotaPeakPagedPoolUsage", ctypes.c_size_t),
        ("QuotaPagedPoolUsage", ctypes.c_size_t),
        ("QuotaPeakNonPagedPoolUsage", ctypes.c_size_t),
        ("QuotaNonPagedPoolUsage", ctypes.c_size_t),
        ("PagefileUsage", ctypes.c_size_t),
        ("PeakPagefileUsage", ctypes.c_size_t),
    )


def _windows_peak() -> int | None:
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - the name exists on Windows only
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    counters = _Counters(cb=ctypes.sizeof(_Counters))
    handle = ctypes.c_void_p(kernel.GetCurrentProcess())
    done = kernel.K32GetProcessMemoryInfo(handle, ctypes.byref(counters), counters.cb)
    return int(counters.PeakWorkingSetSize) if done else None


def accelerators() -> list[str]:
    """What installed engines could run on besides the processor; loads them to ask."""
    found: list[str] = []
    try:
        import onnxruntime

        found.extend(p for p in onnxruntime.get_available_providers() if p != "CPUExecutionProvider")
    except ImportError:
        pass
    try:
        import llama_cpp

        if llama_cpp.llama_supports_gpu_offload():
            found.append("llama.cpp GPU offload")
    except ImportError:
        pass
    return [name for name in found if name != "AzureExecutionProvider"]  # a network service, never used here


def _proc_cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    pairs = (line.split(":", 1) for line in path.read_text(errors="replace").splitlines() if ":" in line)
    info: dict[str, str] = {}
    for name, value in pairs:
        info.setdefault(name.strip(), value.strip())
    return info
