"""What requirements depend on, beside the candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from knowledge.methods.base import Method
from knowledge.schema import Quantization, Task
from knowledge.seen import Seen, seen_on

if TYPE_CHECKING:
    from advisor.survey import Survey

# A weight and its part of the doubly quantised scales (Dettmers et al., 2023, section 3).
NF4_BITS = 4 + 0.127


def bytes_in_4_bits(config: Any, parameters: int) -> float:
    """Of a base in nf4 with double quantisation: embeddings and head stay in 16 bits. config: the model's."""
    text = config.get_text_config()
    tables = 1 if getattr(text, "tie_word_embeddings", True) else 2
    embedding = tables * (getattr(text, "vocab_size", 0) or 0) * (getattr(text, "hidden_size", 0) or 0)
    kept = min(parameters, embedding)
    return 2 * kept + NF4_BITS / 8 * (parameters - kept)


@dataclass(frozen=True)
class Scope:
    """What of the request and the model requirements depend on."""

    task: Task = "causal-lm"
    probe: bool = True
    model_type: str = "llama"
    base_bytes_in_4_bits: float = 0.0
    quantization: Quantization = "none"

    @classmethod
    def of(cls, survey: Survey) -> Scope:
        run, model = survey.planned_run, survey.model
        in_4_bits = bytes_in_4_bits(survey.config, model.parameters)
        return cls(run.task, survey.request.probe, model.model_type, in_4_bits, run.quantization)

    def seen(self, method: Method) -> Seen:
        return seen_on(method.name, self.model_type, self.task) or Seen(works=False)
