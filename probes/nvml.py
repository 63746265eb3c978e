"""What NVIDIA's driver says of the GPUs: names, memory, and who else is using them. Needs no CUDA context."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from probes.schema import ProcessReport


@dataclass(frozen=True)
class Gpu:
    """One GPU, or one MIG instance of it, that CUDA programs may use."""

    uuid: str
    name: str
    total_bytes: int
    free_bytes: int
    processes: tuple[ProcessReport, ...]
    """Other processes than this one."""


@dataclass(frozen=True)
class NvmlReport:
    """`gpus` in the order of CUDA's numbering as far as NVML knows it; `fault` says why NVML could not answer."""

    gpus: tuple[Gpu, ...] = ()
    driver: str | None = None
    fault: str | None = None


def read_gpus() -> NvmlReport:
    """The GPUs visible under CUDA_VISIBLE_DEVICES. Never raises: a missing or broken driver is a `fault`."""
    try:
        with _session() as nvml:
            driver = _text(nvml.nvmlSystemGetDriverVersion())
            gpus, faults = [], []
            for handle in _visible(nvml):
                try:
                    gpus.append(_read_gpu(nvml, handle))
                except nvml.NVMLError as error:  # one card that fell off the bus does not hide the others
                    faults.append(str(error))
            return NvmlReport(tuple(gpus), driver, "; ".join(faults) or None)
    except ImportError:
        return NvmlReport(fault="nvidia-ml-py is not installed")
    except Exception as error:  # NVMLError of many kinds, and AttributeError where driver and binding differ
        return NvmlReport(fault=str(error) or type(error).__name__)


@contextmanager
def _session() -> Iterator[Any]:
    import pynvml

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def _visible(nvml: Any) -> list[Any]:
    """Handles in CUDA's order. An unknown entry of CUDA_VISIBLE_DEVICES hides it and all after it, as CUDA does."""
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return [part for handle in handles for part in _instances(nvml, handle)]
    visible: list[Any] = []
    for entry in (part.strip() for part in wanted.split(",")):
        found = _by_entry(nvml, handles, entry)
        if not found:
            break
        visible += found
    return visible


def _by_entry(nvml: Any, handles: list[Any], entry: str) -> list[Any]:
    if entry.isdecimal():
        return _instances(nvml, handles[int(entry)]) if int(entry) < len(handles) else []
    if entry.startswith("MIG-"):
        try:
            return [nvml.nvmlDeviceGetHandleByUUID(entry)]
        except nvml.NVMLError:
            return []
    if not entry.startswith("GPU-"):
        return []
    matches = [h for h in handles if _text(nvml.nvmlDeviceGetUUID(h)).startswith(entry)]  # CUDA takes prefixes
    return _instances(nvml, matches[0]) if len(matches) == 1 else []


def _instances(nvml: Any, handle: Any) -> list[Any]:
    """The MIG instances of a GPU in MIG mode, in which the GPU as a whole cannot be used; else the GPU itself."""
    try:
        if nvml.nvmlDeviceGetMigMode(handle)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return [handle]
        places = range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle))
    except nvml.NVMLError:  # not supported: most cards
        return [handle]
    found = []
    for place in places:
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place))
        except nvml.NVMLError:  # no instance in this place
            continue
    return found


def _read_gpu(nvml: Any, handle: Any) -> Gpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return Gpu(
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        name=_text(nvml.nvmlDeviceGetName(handle)),
        total_bytes=int(memory.total),
        free_bytes=int(memory.free),
        processes=_processes(nvml, handle),
    )


def _processes(nvml: Any, handle: Any) -> tuple[ProcessReport, ...]:
    try:
        running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    except nvml.NVMLError:  # not permitted in some containers
        return ()
    return tuple(
        ProcessReport(pid=p.pid, name=_process_name(nvml, p.pid), used_bytes=p.usedGpuMemory)
        for p in running
        if p.pid != os.getpid()
    )


def _process_name(nvml: Any, pid: int) -> str:
    try:
        return _text(nvml.nvmlSystemGetProcessName(pid))
    except nvml.NVMLError:  # of another user, or in another container
        return "unknown"


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
