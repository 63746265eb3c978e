"""What can be required, one class per word of `--require`: what it asks of a method, of a probe on its way and of what
was measured. To add a requirement, add a class; what is true of a method on a model is what the contract tests saw.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from advisor.requirements.scope import Scope
from advisor.text import bytes_text
from knowledge.errors import BadInput
from knowledge.gpus import parse_bytes
from knowledge.methods import get_method
from knowledge.methods.base import Method

if TYPE_CHECKING:
    from advisor.recommendation import CandidateReport
    from probes.schema import ProbeOutcome

# An adapter that adds more than a tenth to the base in 4 bits undoes what double quantisation saves there: 0.37 of
# 4.5 bits per weight, 8 % (Dettmers et al., 2023, section 3).
EDGE_ADAPTER_SHARE = 0.1
# Conversions that are exact by construction are seen at 0 to 5 %, for PEFT cuts the rank where layers are fused.
CONVERSION_ERROR = 0.05


@dataclass(frozen=True)
class Requirement:
    """One requirement as it was written, with its limit where it has one."""

    text: str
    scope: Scope
    limit: float = math.inf

    name: ClassVar[str]
    value: ClassVar[Literal["none", "optional", "needed"]] = "none"
    example: ClassVar[str] = ""
    limit_if_none: ClassVar[float] = math.inf

    @classmethod
    def parse_limit(cls, text: str, value: str) -> float:
        """The limit in the requirement's unit; raises BadInput that names `text`, which was given, where the value is
        no limit, as any is for a requirement that takes none."""
        raise BadInput(f"The requirement {text!r} says too much. Write {cls.name}.")

    def reason_against_request(self) -> str | None:
        """Why no candidate could show that it meets it."""

    def reason_against(self, method: Method) -> str | None:
        """Why a method cannot meet it, as far as the method alone shows."""

    def reason_against_size(self, adapter_bytes: int | None) -> str | None:
        """Why an adapter of that size, as a dry run tells it, does not meet it; None where the size is not known."""

    def reason_against_going_on(self, outcome: ProbeOutcome) -> str | None:
        """Why a candidate need not be probed further: another rate of its method, or another method, may need its
        place."""

    def reason_against_report(self, report: CandidateReport) -> str | None:
        """Why a measured candidate does not meet it, or was not seen to meet it."""


class Mergeable(Requirement):
    """The result can be one plain model."""

    name = "mergeable"

    def reason_against(self, method: Method) -> str | None:
        return None if method.capabilities.mergeable else "cannot be merged into the base model"


class Vllm(Requirement):
    """vLLM can serve it, as an adapter or merged."""

    name = "vllm"

    def reason_against_request(self) -> str | None:
        if self.scope.task == "text-to-image":
            return "vLLM serves no image generators"
        trained = (
            "classifiers, whose heads are trained" if self.scope.task == "sequence-classification" else self.scope.task
        )
        return None if self.scope.task == "causal-lm" else f"vLLM is known to serve language models, not {trained}"

    def reason_against(self, method: Method) -> str | None:
        served = method.capabilities.vllm != "no"
        return None if served else "cannot be served by vLLM, neither as an adapter nor merged"


class Quantized(Requirement):
    """It trains on a base in 4 or 8 bits: on the planned one, where that is quantised."""

    name = "quantized"

    def reason_against(self, method: Method) -> str | None:
        return None if method.capabilities.quantized else "does not train on a base in 4 or 8 bits"


class MultiAdapter(Requirement):
    """Several of its adapters can be loaded beside one base and switched between."""

    name = "multi-adapter"

    def reason_against_request(self) -> str | None:
        return None if self.scope.task != "text-to-image" else "what loads beside others was seen on text models alone"

    def reason_against(self, method: Method) -> str | None:
        return None if self.scope.seen(method).beside_others else "a second adapter cannot be loaded beside it"


class Convertible(Requirement):
    """It is a LoRA, or PEFT converts it to one: what it does to the model's outputs stays but for a share, seen on the
    tiny models at rank 16."""

    name = "convertible"
    value = "optional"
    example = "convertible=10%"
    limit_if_none = CONVERSION_ERROR

    @classmethod
    def parse_limit(cls, text: str, value: str) -> float:
        return _share(text, value, "how far the converted adapter's effect may be off")

    def reason_against_request(self) -> str | None:
        return None if self.scope.task != "text-to-image" else "conversions to LoRA were seen on text models alone"

    def reason_against(self, method: Method) -> str | None:
        if method.capabilities.vllm == "adapter":  # which only an ordinary LoRA is
            return None
        error = self.scope.seen(method).lora_error
        if error is None:
            return "cannot be converted to a LoRA"
        if error <= self.limit:
            return None
        return f"converts to a LoRA of rank 16 with an error of {_percent(error)}, over {_percent(self.limit)}"


class _OfAdapterSize:
    """What requirements on the size of the saved adapter have in common."""

    def _allowed(self) -> tuple[float, str]:
        """At most so many bytes, and the same in words."""
        raise NotImplementedError

    def reason_against_size(self, adapter_bytes: int | None) -> str | None:
        return self._over(adapter_bytes)

    def reason_against_going_on(self, outcome: ProbeOutcome) -> str | None:
        return self._over(outcome.adapter_bytes)

    def reason_against_report(self, report: CandidateReport) -> str | None:
        if report.status == "from table" and report.adapter_bytes is None:
            return "the size of its adapter is known from a probe alone"
        return self._over(report.adapter_bytes)

    def _over(self, adapter_bytes: int | None) -> str | None:
        limit_bytes, limit_text = self._allowed()
        if adapter_bytes is None or adapter_bytes <= limit_bytes:
            return None
        size = bytes_text(adapter_bytes)
        return f"its adapter has {size if size != limit_text else f'{adapter_bytes:,} bytes'}, over {limit_text}"


class Edge(_OfAdapterSize, Requirement):
    """Fit for a small device: it trains on a base in 4 bits, and its adapter adds at most EDGE_ADAPTER_SHARE to it."""

    name = "edge"

    def reason_against_request(self) -> str | None:
        small = self.scope.task != "text-to-image"
        return None if small else "what is small for a device is known of language models and classifiers alone"

    def _allowed(self) -> tuple[float, str]:
        base_bytes = self.scope.base_bytes_in_4_bits
        words = f"{_percent(EDGE_ADAPTER_SHARE)} of the {bytes_text(base_bytes)} of the base in 4 bits"
        return EDGE_ADAPTER_SHARE * base_bytes, words

    def reason_against(self, method: Method) -> str | None:
        return None if "nf4" in method.capabilities.quantized else "does not train on a base in 4 bits"


class MaxAdapterSize(_OfAdapterSize, Requirement):
    """The saved adapter has at most so many bytes."""

    name = "max-adapter-size"
    value = "needed"
    example = "max-adapter-size=50MB"

    @classmethod
    def parse_limit(cls, text: str, value: str) -> float:
        try:
            return parse_bytes(value)
        except BadInput as error:
            raise BadInput(f"{text}: {error}") from None

    def _allowed(self) -> tuple[float, str]:
        return self.limit, bytes_text(self.limit)


class MaxForgetting(Requirement):
    """The loss on the base's own texts grows by at most so many nats per token."""

    name = "max-forgetting"
    value = "needed"
    example = "max-forgetting=0.1"

    @classmethod
    def parse_limit(cls, text: str, value: str) -> float:
        with suppress(ValueError):
            if 0 <= (nats := float(value)) < math.inf:
                return nats
        raise BadInput(f"{text!r}: give a number of nats per token that is not negative, e.g. {cls.example}.")

    def reason_against_request(self) -> str | None:
        if not self.scope.probe:
            return "forgetting is known only by probing"
        if self.scope.task == "sequence-classification":
            return "forgetting is measured on texts that the base model writes, and a classifier writes none"
        return None

    def reason_against_going_on(self, outcome: ProbeOutcome) -> str | None:
        """What forgets too much early rarely comes back within the limit."""
        return None if outcome.forgetting is None else self._over(outcome.forgetting)

    def reason_against_report(self, report: CandidateReport) -> str | None:
        if report.status not in ("finished", "eliminated"):
            return None
        if report.forgetting is None:
            return f"its forgetting is unknown: {report.forgetting_note or 'no probe of it came to its end'}"
        return self._over(report.forgetting)

    def _over(self, nats: float) -> str | None:
        return f"forgets {nats:.3f} nats per token, over {self.limit:g}" if nats > self.limit else None


class MaxLatencyOverhead(Requirement):
    """A request takes at most this share longer than with the base alone; see probes.latency for how it is measured,
    and why what merges into a base in full precision costs nothing."""

    name = "max-latency-overhead"
    value = "needed"
    example = "max-latency-overhead=5%"

    @classmethod
    def parse_limit(cls, text: str, value: str) -> float:
        return _share(text, value, "how much longer a request may take with the adapter")

    def reason_against(self, method: Method) -> str | None:
        if self.scope.probe or self._merges_for_free(method):
            return None
        return "stays beside the base, and what that costs is known only by probing"

    def reason_against_going_on(self, outcome: ProbeOutcome) -> str | None:
        return None if outcome.latency_overhead is None else self._over(outcome.latency_overhead)

    def reason_against_report(self, report: CandidateReport) -> str | None:
        if report.status not in ("finished", "eliminated"):
            return None
        if report.latency_overhead is None and self._merges_for_free(get_method(report.name)):
            return None  # as of a race that was resumed with this requirement
        if report.latency_overhead is None:
            return "its time per request was not measured"
        return self._over(report.latency_overhead)

    def _merges_for_free(self, method: Method) -> bool:
        return method.capabilities.mergeable and self.scope.quantization == "none"

    def _over(self, overhead: float) -> str | None:
        if overhead <= self.limit:
            return None
        return f"a request takes {_percent(overhead)} longer than without it, over {_percent(self.limit)}"


def _share(text: str, value: str, meaning: str) -> float:
    """0.05 from '5%' or '0.05'; a plain 5 may be meant as either, and as 500 % would require nothing."""
    with suppress(ValueError):
        is_percentage = value.endswith("%")
        share = float(value.removesuffix("%")) / (100 if is_percentage else 1)
        if 0 <= share < (math.inf if is_percentage else 1):
            return share
    raise BadInput(f"{text!r}: give {meaning} as a percentage, e.g. {text.partition('=')[0]}=5%.")


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


KINDS: Mapping[str, type[Requirement]] = {kind.name: kind for kind in Requirement.__subclasses__()}
WORDS = tuple(kind.example or kind.name for kind in KINDS.values())
