"""What the catalogue knows about a method. One file per method or close family defines instances of `Method`.

A method is data first: which PEFT config it stands for, which learning rates to try, what it can do. The few
that need more than data (a call before or after wrapping) subclass `Method` in their own file and
import what they need inside the hook, so that reading the catalogue loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from knowledge.schema import Finite, Record, Task
from knowledge.targets import Targets

Family = Literal["low-rank", "orthogonal", "multiplicative", "sparse", "spectral", "prompt", "bias-or-norm", "full"]


class Capabilities(Record):
    """What a method can do once trained. Each is checked by tests/contracts/test_methods.py."""

    mergeable: bool = Field(description="merging into the base gives the same outputs, so inference costs nothing")
    identity_start: bool = Field(True, description="the untrained adapter leaves the model's outputs unchanged")
    vllm: Literal["adapter", "merged", "no"] = Field("no", description="how vLLM can serve it")


class ModelShape(Record):
    """What a method must know of the model to write its config: read off the built model, not guessed."""

    model_type: str = Field(description="the config's model_type, e.g. 'llama'")
    task: Task = "causal-lm"
    hidden_size: int
    num_layers: int
    linear_modules: tuple[str, ...] = Field(description="distinct last name parts of Linear and Conv1D modules")
    norm_modules: tuple[str, ...] = ()
    has_biases: bool = False
    uses_conv1d: bool = False


class Method(Record):
    """One fine-tuning method with the settings it is tried with."""

    name: str = Field(description="unique key, lower case with dashes, e.g. 'lora-all-linear'")
    title: str = Field(description="as people write it, e.g. 'LoRA (all linear layers)'")
    peft_type: str | None = Field(description="a value of peft.PeftType; None where no adapter is added")
    family: Family
    summary: str = Field(description="what it does, in two sentences for a person who has not heard of it")
    paper: str = Field(description="authors, year and arXiv id")
    settings: Mapping[str, Any] = Field(default_factory=dict, description="keys of PEFT's config for this type")
    settings_source: str = Field(description="where the settings and the learning rates come from")
    targets: Targets = Field("none", description="which modules it adapts; resolved per architecture")
    learning_rates: tuple[Finite, ...] = Field(description="to try, ascending; the default is the middle one")
    weight_decay: Finite = 0.0
    optimizer: str = Field("torch.optim:AdamW", description="'module:callable'; peft.optimizers get the model first")
    optimizer_settings: Mapping[str, Any] = Field(default_factory=dict, description="further keyword arguments")
    tasks: tuple[Task, ...] = ("causal-lm", "sequence-classification", "seq2seq-lm")
    supports_conv1d: bool = Field(False, description="works on the Conv1D layers of GPT-2")
    capabilities: Capabilities
    reference_only: bool = Field(False, description="measured for comparison, never recommended over an adapter")

    @property
    def default_learning_rate(self) -> float:
        return self.learning_rates[len(self.learning_rates) // 2]

    def unsupported_reason(self, shape: ModelShape) -> str | None:
        """Why this method cannot be used on such a model, or None if it can."""
        if shape.task not in self.tasks:
            return f"{self.title} is not made for {shape.task}"
        if shape.uses_conv1d and not self.supports_conv1d:
            return f"{self.title} does not support the Conv1D layers of {shape.model_type}"
        return None

    def peft_config(self, shape: ModelShape, max_steps: int) -> dict[str, Any] | None:
        """The canonical PEFT config (keys of adapter_config.json) for a model and a run of `max_steps`,
        or None where no adapter is added."""
        raise NotImplementedError  # filled in beside knowledge/targets.py

    def before_wrapping(self, model: Any, config: Any, batches: Any) -> None:
        """Called with the bare model, its PeftConfig and calibration batches, for data-driven initialisations."""

    def after_wrapping(self, model: Any, batches: Any) -> None:
        """Called with the wrapped model and calibration batches, for data-driven initialisations."""

    def select_trainable(self, model: Any) -> None:
        """Called instead of wrapping where `peft_type` is None: sets requires_grad. Default: everything trains."""
        for parameter in model.parameters():
            parameter.requires_grad_(True)
