"""What the catalogue knows about a method. One file per method or close family defines instances of `Method`.

A method is data first: which PEFT config it stands for, which learning rates to try, what it can do. The few
that need more than data (settings that depend on the model, a call before or after wrapping) subclass `Method` in
their own file and import what they need inside the hook, so that reading the catalogue loads no torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

from pydantic import Field

from knowledge.errors import BadInput
from knowledge.schema import Finite, Record, Task
from knowledge.shape import ModelShape
from knowledge.targets import Targets, goes_through_text, target_modules, target_paths

__all__ = [
    "BENCHMARK",
    "MERGES",
    "MERGES_IN_FULL_PRECISION",
    "PEFT_TASK_TYPES",
    "QUANTIZED_BASES",
    "Capabilities",
    "Family",
    "Method",
    "ModelShape",
    "QuantizedBase",
    "largest_divisor",
]

QuantizedBase = Literal["nf4", "int8"]
QUANTIZED_BASES: Mapping[QuantizedBase, str] = {"nf4": "4 bits (nf4)", "int8": "8 bits (int8)"}

Family = Literal["low-rank", "orthogonal", "multiplicative", "sparse", "spectral", "prompt", "bias-or-norm", "full"]

# On narrow models the best rate of what changes weight matrices is higher than on those with billions of parameters,
# where the catalogue's rates come from. With hidden sizes of 384 and 576 (examples/study) it was in 36 of 38 cases, of
# a method on a task, the highest of them or NARROW_STEP times that; of what trains vectors in 13 of 24.
NARROW_STEP = 3
FAMILIES_OF_MATRICES: tuple[Family, ...] = ("low-rank", "orthogonal", "sparse")

PEFT_TASK_TYPES: dict[Task, str] = {
    "causal-lm": "CAUSAL_LM",
    "sequence-classification": "SEQ_CLS",
    "seq2seq-lm": "SEQ_2_SEQ_LM",
}


class Capabilities(Record):
    """What a method can do once trained. Each is checked by tests/contracts/test_methods.py."""

    mergeable: bool = Field(
        description="the result can be one plain model with the same outputs, so inference costs nothing"
    )
    identity_start: bool = Field(True, description="the untrained adapter leaves the model's outputs unchanged")
    restores_base: bool = Field(True, description="removing the adapter gives back the very base, so it can be reused")
    quantized: tuple[QuantizedBase, ...] = Field(
        ("nf4", "int8"), description="kinds of quantised bases (bitsandbytes) on which it trains as on a plain one"
    )
    vllm: Literal["adapter", "merged", "no"] = Field("no", description="how vLLM can serve it")


MERGES = Capabilities(mergeable=True, vllm="merged")
MERGES_IN_FULL_PRECISION = Capabilities(mergeable=True, quantized=(), vllm="merged")

# What most `settings_source` begin with.
BENCHMARK = "PEFT's public method comparison (MetaMathQA, Llama-3.2-3B)"


class Method(Record):
    """One fine-tuning method with the settings it is tried with."""

    name: str = Field(description="unique key, lower case with dashes, e.g. 'lora-all-linear'")
    title: str = Field(description="as people write it, e.g. 'LoRA (all linear layers)'")
    peft_type: str | None = Field(description="a value of peft.PeftType; None where no adapter is added")
    family: Family
    summary: str = Field(description="what it does, in two sentences for a person who has not heard of it")
    paper: str = Field(description="authors, year and arXiv id")
    settings: Mapping[str, Any] = Field(default_factory=dict, description="keys of PEFT's config for this type")
    must_divide: Mapping[str, Literal["inputs", "outputs", "both"]] = Field(
        default_factory=dict, description="settings that must divide the sizes of the adapted layers; lowered to fit"
    )
    settings_source: str = Field(description="where the settings and the learning rates come from")
    targets: Targets = Field("none", description="which modules it adapts; resolved per architecture")
    trains: str = Field(
        "", description="where peft_type is None: regular expression that names of trained parameters match"
    )
    learning_rates: tuple[Finite, ...] = Field(
        min_length=3, description="to try on models of billions of parameters, ascending; the default is the middle"
    )
    same_rates_on_narrow: bool = Field(
        False, description="narrow models get the same rates, against the rule for its family"
    )
    weight_decay: Finite = 0.0
    optimizer: str = Field("torch.optim:AdamW", description="'module:callable'; see probes.adapters.make_optimizer")
    optimizer_settings: Mapping[str, Any] = Field(default_factory=dict, description="further keyword arguments")
    tasks: tuple[Task, ...] = ("causal-lm", "sequence-classification", "seq2seq-lm")
    supports_conv1d: bool = Field(False, description="works on the Conv1D layers of GPT-2")
    adds_in_place: bool = Field(
        False,
        description="changes a layer's output in place, which PyTorch forbids where that is in 4 bits and has a bias, "
        "and on a GPU in 8 bits",
    )
    capabilities: Capabilities
    reference_only: bool = Field(False, description="measured for comparison, never recommended over an adapter")
    trains_through_model_loss: bool = Field(
        False,
        description="the model adds a term to its `.loss` that must be trained with and never be evaluated with",
    )
    cost: Literal["normal", "high"] = Field("normal", description="high: several times the time of LoRA per step")
    special_purpose: str | None = Field(
        None, description="why it is listed but no candidate: it answers another question than 'which method?'"
    )
    requires: tuple[str, ...] = Field((), description="modules that PEFT imports for it and does not install")
    trains_in_base_dtype: bool = Field(
        False, description="what it trains stays in the precision of the base; others train in float32"
    )
    saved_size_differs: bool = Field(
        False, description="its file holds more or less than what it trains: only a probe tells its size"
    )
    needs_batches: bool = Field(False, description="its initialisation reads a few training batches")

    def variant(self, kind: type[Method] | None = None, /, **changes: Any) -> Method:
        """The same method with other values in some fields, or as another class, validated like a new one."""
        return (kind or type(self))(**{**dict(self), **changes})

    @property
    def default_learning_rate(self) -> float:
        return _middle(self.learning_rates)

    @property
    def narrow_learning_rates(self) -> tuple[float, ...]:
        """To try on narrow models, ascending: for what changes weight matrices one step further up."""
        if self.same_rates_on_narrow or self.family not in FAMILIES_OF_MATRICES:
            return self.learning_rates
        return (*self.learning_rates[1:], a_step_above(self.learning_rates[-1]))

    def learning_rates_for(self, shape: ModelShape) -> tuple[float, ...]:
        """To try on such a model, ascending."""
        return self.narrow_learning_rates if shape.is_narrow else self.learning_rates

    def default_learning_rate_for(self, shape: ModelShape) -> float:
        return _middle(self.learning_rates_for(shape))

    def unsupported_reason(self, shape: ModelShape) -> str | None:
        """Why this method cannot be used on such a model, or None if it can."""
        if self.special_purpose:
            return f"{self.title} is for a special purpose: {self.special_purpose}"
        if missing := [name for name in self.requires if find_spec(name) is None]:
            return f"{self.title} needs a package that is not installed: {', '.join(missing)}"
        if shape.task not in self.tasks:
            return f"{self.title} is not made for {shape.task}"
        if shape.quantization != "none" and shape.quantization not in self.capabilities.quantized:
            return f"{self.title} does not work on a base in {QUANTIZED_BASES[shape.quantization]}"
        if lost := [head for head in shape.head_modules if not self.saves_head(head)]:
            return f"{self.title} does not save {', '.join(lost)}, which is drawn anew wherever the model is loaded"
        if self.trains_in_base_dtype and shape.dtype == "float16":
            return f"{self.title} trains weights in the base's float16, in which the steps of AdamW are lost"
        try:
            paths = target_paths(shape, self.targets)
        except BadInput as error:
            return str(error)
        if not self.supports_conv1d and not set(paths).isdisjoint(shape.conv1d_paths):
            return f"{self.title} does not support the Conv1D layers of {shape.model_type}"
        has_bias = any(f"{path}.bias" in shape.bias_paths for path in paths)
        if self.adds_in_place and has_bias and shape.quantization != "none":
            return (
                f"{self.title} does not work on layers with a bias, as those of {shape.model_type}, in "
                f"{QUANTIZED_BASES[shape.quantization]}"
            )
        return None

    def saves_head(self, name: str) -> bool:
        """Whether it can train a module of a classifier beside the head, and save it: PEFT's prompts cannot."""
        return self.family != "prompt"

    def peft_config(self, shape: ModelShape, max_steps: int) -> dict[str, Any] | None:
        """The canonical PEFT config (keys of adapter_config.json) for a model and a run of `max_steps`,
        or None where no adapter is added. Raises BadInput where the model lacks the modules it adapts."""
        if self.peft_type is None:
            return None
        config = {"peft_type": self.peft_type, "task_type": PEFT_TASK_TYPES[shape.task], **self.settings}
        if self.targets != "none":
            config["target_modules"] = target_modules(shape, self.targets)
        if shape.head_modules and shape.quantization == "none":
            config["modules_to_save"] = list(shape.head_modules)
        return self.fit_settings(config, shape, max_steps)

    def fit_settings(self, config: dict[str, Any], shape: ModelShape, max_steps: int) -> dict[str, Any]:
        """The config with what depends on the model's sizes or the length of the run set.

        Here: settings that must divide layer sizes become the largest divisor below their value.
        """
        if not self.must_divide:
            return config
        inputs, outputs = (math.gcd(*sizes) for sizes in zip(*self.target_sizes(shape), strict=True))
        common = {"inputs": inputs, "outputs": outputs, "both": math.gcd(inputs, outputs)}
        return config | {key: largest_divisor(common[of], config[key]) for key, of in self.must_divide.items()}

    def target_sizes(self, shape: ModelShape) -> list[tuple[int, int]]:
        """Distinct (in_features, out_features) of the linear modules that this method adapts."""
        return sorted({size for path in target_paths(shape, self.targets) for size in shape.linear_sizes[path]})

    def before_wrapping(self, model: Any, config: Any, calibration: Any) -> None:
        """Called with the bare model, its PeftConfig and a probes.adapters.Calibration (None without batches)."""

    def after_wrapping(self, model: Any, calibration: Any) -> None:
        """Called with the wrapped model and a probes.adapters.Calibration (None without batches)."""

    def select_trainable(self, model: Any) -> None:
        """Called instead of wrapping where `peft_type` is None: only parameters named like `trains` are trained."""
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(re.search(self.trains, name) is not None and goes_through_text(name))

    @property
    def saved_rank_factor(self) -> int:
        """How many times the rank of its config the saved LoRA has; see knowledge/methods/anchored_lora.py."""
        return 1

    @property
    def is_plain_peft(self) -> bool:
        """Whether its PEFT config and get_peft_model are all it takes, so that other tools can train it."""
        own = type(self)
        hooked = own.before_wrapping is not Method.before_wrapping or own.after_wrapping is not Method.after_wrapping
        return self.peft_type is not None and not hooked


def largest_divisor(number: int, at_most: int) -> int:
    """The largest divisor of `number` that is not above `at_most` (itself at least 1)."""
    return next(d for d in range(min(number, at_most), 0, -1) if number % d == 0)


def _middle(rates: Sequence[float]) -> float:
    return rates[len(rates) // 2]


def a_step_above(rate: float) -> float:
    """The rate one step further up, as people write it: 0.003 and not 0.0030000000000000001."""
    return float(f"{NARROW_STEP * rate:.6g}")
