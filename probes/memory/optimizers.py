"""Makes the optimizer of a run on meta, with stand-ins for those that need a GPU library."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from probes.adapters import optimizer_of

# bitsandbytes' optimizers (bitsandbytes/optim/optimizer.py): states of 8 bits in blocks of 256 values with one fp32
# scale each, two quantisation maps of 256 fp32 values, and fp32 states for tensors of fewer than 4096 values. Paged
# optimizers keep states of at least 1e5 values in managed memory, which PyTorch's allocator does not see.
EIGHT_BIT_BLOCK = 256
EIGHT_BIT_MAP = 256
EIGHT_BIT_MIN_VALUES = 4096
PAGED_MIN_VALUES = 100_000
ONE_STATE = ("SGD", "Lion", "RMSprop", "Adagrad", "LARS")


def make_optimizer(model: Any, spec: str, settings: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer 'module:callable' over what the model trains."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    if spec.startswith("bitsandbytes"):
        return BitsAndBytesStandIn(trainable, spec.partition(":")[2])
    return optimizer_of(spec, model, trainable, {"lr": 1e-4, **settings})


class BitsAndBytesStandIn(torch.optim.Optimizer):
    """Allocates what an optimizer of bitsandbytes allocates; it updates in place, without temporaries."""

    def __init__(self, parameters: list[torch.Tensor], name: str) -> None:
        super().__init__(parameters, {})
        self._states = 1 if name.startswith((*ONE_STATE, *(f"Paged{state}" for state in ONE_STATE))) else 2
        self._eight_bit = "8bit" in name
        self._paged = name.startswith("Paged")
        self._maps: list[torch.Tensor] = []

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for parameter in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            if not self.state[parameter]:
                self.state[parameter] = {"tensors": self._make_states(parameter)}

    def _make_states(self, parameter: torch.Tensor) -> list[torch.Tensor]:
        values, device = parameter.numel(), parameter.device
        if self._paged and values >= PAGED_MIN_VALUES:
            return []
        if not self._eight_bit or values < EIGHT_BIT_MIN_VALUES:
            return [torch.zeros(values, dtype=torch.float32, device=device) for _ in range(self._states)]
        if not self._maps:
            self._maps = [torch.zeros(EIGHT_BIT_MAP, device=device) for _ in range(self._states)]
        blocks = -(-values // EIGHT_BIT_BLOCK)
        return [
            tensor
            for _ in range(self._states)
            for tensor in (
                torch.zeros(values, dtype=torch.uint8, device=device),
                torch.zeros(blocks, dtype=torch.float32, device=device),
            )
        ]
