"""The device that trains, as it is: an NVIDIA GPU, an Apple GPU, or the processor alone."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from knowledge.errors import BadInput
from knowledge.gpus import find_gpu, parse_bytes
from knowledge.schema import DType
from probes.nvml import Gpu, NvmlReport, read_gpus
from probes.schema import DeviceReport

CGROUP_ROOT = Path("/sys/fs/cgroup")

# What a process takes from the card beside its tensors: PyTorch's developers name about 400 MB with CUDA 11.7 or later,
# which loads kernels when they are first used (github.com/pytorch/pytorch/issues/109888).
CUDA_CONTEXT_BYTES = 400 * 1000**2

MUCH_TAKEN = 0.07  # of a card's memory, beside what its driver keeps: more than a bare desktop holds of most cards
NEARLY_AS_FREE = 0.9  # of the free memory of the best GPU: another one with that much may take part in a race
LOOK_S = 0.5  # at how busy the processor is


def detect(vram: str | None = None, gpu: str | None = None) -> DeviceReport:
    """The device to plan for: the card named by `gpu`, one with `vram` memory (e.g. '24GB'), or the best one here.

    A run may use all of `vram`, and of a card's memory what the CUDA context leaves.
    Of several GPUs the one with the most free memory. Raises BadInput for a card or an amount that is not understood;
    a missing or broken driver is a note, not an error.
    """
    if gpu is not None:
        card = find_gpu(str(gpu))  # from Python it may be a number
        limit_bytes = card.memory_bytes - card.driver_bytes - CUDA_CONTEXT_BYTES
        return _planned(card.name, card.memory_bytes, limit_bytes, bf16=card.has_bfloat16)
    if vram is not None:
        try:
            total_bytes = parse_bytes(str(vram))
        except BadInput as error:
            raise BadInput(f"vram (--vram): {error}") from None
        return _planned(f"a card with {total_bytes / 1e9:g} GB", total_bytes, total_bytes)
    return max(detect_all(), key=lambda device: device.free_bytes)


def detect_all() -> tuple[DeviceReport, ...]:
    """Every device that torch can train on here, in the order of `cuda:0`, `cuda:1`, ...; without a GPU the one CPU."""
    import torch

    nvml = read_gpus()
    if torch.cuda.is_available():
        return tuple(_cuda(index, nvml) for index in range(torch.cuda.device_count()))
    if torch.backends.mps.is_available():
        return (_apple(),)
    return (_cpu(_why_no_gpu(nvml)),)


def training_devices() -> tuple[str, list[str] | None]:
    """Where probes train: the torch device, and for each GPU the CUDA_VISIBLE_DEVICES of its worker (None: no GPU).

    Of several GPUs the best one (see `detect`) and those like it: of the same name, with nearly as much free memory,
    and idle where that one is. Probes are compared with each other, so they must train alike and fit alike.
    """
    found = detect_all()
    best = max(found, key=lambda device: device.free_bytes)
    if best.kind != "cuda":
        return best.kind, None
    alike = [
        device
        for device in found
        if device.name == best.name
        and device.free_bytes >= NEARLY_AS_FREE * best.free_bytes
        and bool(device.processes) == bool(best.processes)
    ]
    return "cuda", [_as_only_visible(device.index) for device in alike]


def _as_only_visible(index: int) -> str:
    """The CUDA_VISIBLE_DEVICES with which a child process sees this process's `cuda:index` alone. It counts among all
    GPUs of the machine, so where the user has chosen some of them, their own entry says which one is meant."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(index) if chosen is None else chosen.split(",")[index].strip()


def _planned(name: str, total_bytes: int, limit_bytes: int, *, bf16: bool = True) -> DeviceReport:
    return DeviceReport(
        kind="cuda",
        name=name,
        total_bytes=total_bytes,
        free_bytes=total_bytes,
        limit_bytes=limit_bytes,
        planned=True,
        dtypes=_cuda_dtypes(bf16),
        notes=("planned, not here: times are measured on this machine and will differ there",),
    )


def _cuda(index: int, nvml: NvmlReport) -> DeviceReport:
    """A CUDA device by torch, with what only NVML knows: free memory without a context, other processes, the driver."""
    import torch

    properties = torch.cuda.get_device_properties(index)
    gpu = _matching(index, str(getattr(properties, "uuid", "")), nvml.gpus)
    notes = [f"NVML: {nvml.fault}"] if nvml.fault else []
    if gpu is None:
        free_bytes, total_bytes = torch.cuda.mem_get_info(index)
    else:
        free_bytes, total_bytes = gpu.free_bytes, gpu.total_bytes
    # NVML's total holds what the driver keeps for itself; CUDA's does not.
    offered_bytes = min(total_bytes, getattr(properties, "total_memory", total_bytes))
    processes = gpu.processes if gpu else ()
    taken_bytes = offered_bytes - free_bytes
    taken = ""
    if processes:
        taken = f"{len(processes)} other process(es) use it: memory may run out and timings are not reliable"
    elif gpu and taken_bytes > MUCH_TAKEN * offered_bytes:  # by a display, or by what runs in another container
        taken = f"{taken_bytes / 1e9:.1f} GB of its memory are taken by others: it may run out"
    notes += [taken] if taken else []
    return DeviceReport(
        kind="cuda",
        index=index,
        name=gpu.name if gpu else properties.name,
        total_bytes=total_bytes,
        free_bytes=free_bytes,
        limit_bytes=offered_bytes - CUDA_CONTEXT_BYTES,
        processes=processes,
        taken=taken,
        driver=nvml.driver,
        dtypes=_cuda_dtypes(properties.major >= 8),  # Ampere and later; earlier cards emulate bfloat16 slowly
        notes=tuple(notes),
    )


def _cuda_dtypes(bf16: bool) -> tuple[DType, ...]:
    return ("bfloat16", "float16", "float32") if bf16 else ("float16", "float32")


def _matching(index: int, uuid: str, gpus: tuple[Gpu, ...]) -> Gpu | None:
    """torch's GPU in NVML's list: by UUID, which holds whatever the two orders are, else by position."""
    for gpu in gpus:
        if uuid and uuid in gpu.uuid:
            return gpu
    return gpus[index] if not uuid and index < len(gpus) else None


def _why_no_gpu(nvml: NvmlReport) -> tuple[str, ...]:
    if nvml.gpus:
        import torch

        names = ", ".join(gpu.name for gpu in nvml.gpus)
        if torch.version.cuda is None:
            return (
                f"{names} is here, but this torch ({torch.__version__}) is built without CUDA: install a CUDA build",
            )
        return (f"{names} is here, but torch cannot use it: is the driver {nvml.driver} too old for this torch?",)
    if nvml.fault and "not found" not in nvml.fault.lower():
        return (f"no GPU can be used; NVML: {nvml.fault}",)
    if os.environ.get("CUDA_VISIBLE_DEVICES") is not None and nvml.driver:
        return (f"no GPU is visible: CUDA_VISIBLE_DEVICES is {os.environ['CUDA_VISIBLE_DEVICES']!r}",)
    return ("no GPU found: probes run on the processor",)


def _apple() -> DeviceReport:
    import torch

    total_bytes = torch.mps.recommended_max_memory()
    return DeviceReport(
        kind="mps",
        name=f"Apple GPU ({platform.processor() or platform.machine()})",
        total_bytes=total_bytes,
        free_bytes=min(total_bytes, free_host_bytes()),
        limit_bytes=total_bytes,
        dtypes=("float32", "float16"),
        notes=("memory is shared with the processor; the memory model is made for CUDA and only a guide here",),
    )


def _cpu(notes: tuple[str, ...] = ()) -> DeviceReport:
    import psutil

    total_bytes, (limit_bytes, _) = psutil.virtual_memory().total, _cgroup_memory()
    if limit_bytes is not None and limit_bytes < total_bytes:
        total_bytes = limit_bytes
        notes = (*notes, f"memory is limited to {limit_bytes / 1e9:.1f} GB by the container")
    return DeviceReport(
        kind="cpu",
        name=f"{_cpu_name()}, {cpu_cores()} core(s)",
        total_bytes=total_bytes,
        free_bytes=free_host_bytes(),
        limit_bytes=total_bytes,
        dtypes=("float32", "bfloat16") if not _has_amx() else ("bfloat16", "float32"),
        notes=notes,
    )


def _cpu_facts() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _cpu_name() -> str:
    names = [line.partition(":")[2].strip() for line in _cpu_facts().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine() or "CPU"


def _has_amx() -> bool:
    """Whether the processor multiplies bf16 matrices in hardware; without, bf16 trains 3.4 times slower than fp32."""
    return "amx_bf16" in _cpu_facts()


def cpu_cores() -> int:
    """Cores that this process may use, with a container's CPU quota taken into account."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([cores, *(max(1, whole) for folder in _cgroup_folders() if (whole := _quota_cores(folder)) is not None)])


def idle_cores() -> int:
    """Of those cores the ones that are not busy with something else: threads that have to wait for each other on a busy
    machine are many times slower than one thread alone."""
    import psutil

    # Of the whole machine, of which a container may have a few cores. The load average would count a run that has
    # ended a minute ago.
    idle_share = 1 - psutil.cpu_percent(interval=LOOK_S) / 100
    return max(1, min(cpu_cores(), round(idle_share * (os.cpu_count() or 1))))


def asked_threads() -> int | None:
    """Of OMP_NUM_THREADS, by which users and schedulers say how many a process may have; None where it says nothing."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else None


def _quota_cores(group: Path) -> int | None:
    """Whole cores that a control group may use, by versions 2 and 1; None without a limit."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(quota) // int(period) if int(quota) > 0 else None  # -1 is none in version 1
    except (OSError, ValueError):  # no such files, or "max"
        return None


def free_host_bytes() -> int:
    """Bytes of main memory that this process may still take, with a container's limit taken into account."""
    import psutil

    free_bytes = psutil.virtual_memory().available
    limit_bytes, used_bytes = _cgroup_memory()
    return free_bytes if limit_bytes is None else min(free_bytes, max(0, limit_bytes - used_bytes))


def _cgroup_memory() -> tuple[int | None, int]:
    """(smallest memory limit of this process's control groups or None, bytes in use under it); versions 2 and 1.

    Pages of files are left out of what is in use, as they are on a machine without a limit: reading a model fills the
    group with them, and they make room as soon as a process asks for memory.
    """
    tightest: tuple[int | None, int] = (None, 0)
    for folder in _cgroup_folders():
        for limit_name, used_name in (
            ("memory.max", "memory.current"),
            ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
        ):
            try:
                limit = int((folder / limit_name).read_text())
                used = int((folder / used_name).read_text())
            except (OSError, ValueError):  # no such file, or "max"
                continue
            if tightest[0] is None or limit < tightest[0]:
                tightest = (limit, max(0, used - _file_cache_bytes((folder / used_name).parent)))
    return tightest


def _file_cache_bytes(group: Path) -> int:
    """Bytes of files that the kernel keeps in memory on account of the control group `group` and those under it."""
    try:
        counts = dict(line.split(maxsplit=1) for line in (group / "memory.stat").read_text().splitlines())
        # Version 1 counts the groups under it in fields of their own, version 2 always.
        return sum(int(counts.get(f"total_{name}", counts.get(name, 0))) for name in ("active_file", "inactive_file"))
    except (OSError, ValueError):
        return 0


def _cgroup_folders() -> list[Path]:
    """The control group of this process and those above it: a limit may be set at any level."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    unified = next((line[3:] for line in lines if line.startswith("0::")), "/")
    folder = CGROUP_ROOT / unified.lstrip("/")
    return [CGROUP_ROOT, *(p for p in (folder, *folder.parents) if p.is_relative_to(CGROUP_ROOT) and p != CGROUP_ROOT)]
