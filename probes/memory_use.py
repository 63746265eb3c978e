"""Measures how much memory a probe holds at its peak, on the device where it trains."""

from __future__ import annotations

from pathlib import Path


class MemoryUse:
    """Peak memory since the last reset: reserved bytes on a GPU, resident bytes of this process on a CPU.

    On Linux the kernel resets the resident peak through /proc/self/clear_refs (see proc(5)); where that is not
    possible the peak on a CPU is unknown and given as None, never as the peak of an earlier probe.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self._resettable = True

    def reset_peak(self) -> None:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            self._resettable = False

    def peak_bytes(self) -> int | None:
        if self.device.startswith("cuda"):
            import torch

            return torch.cuda.max_memory_reserved(self.device)
        if self.device != "cpu" or not self._resettable:
            return None
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return None
