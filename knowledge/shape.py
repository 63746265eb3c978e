"""What a method must know of a model before it can be configured: names and sizes, no weights."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from knowledge.schema import DType, Quantization, Record, Task

NARROW_HIDDEN_SIZE = 1024


class ModelShape(Record):
    """The layers of a model, read off the built model (a meta model will do).

    A path is a module's name with every number replaced by `*`, so that
    `model.layers.*.self_attn.q_proj` stands for that module in all layers.
    """

    model_type: str = Field(description="the config's model_type, e.g. 'llama'")
    task: Task = "causal-lm"
    quantization: Quantization = Field("none", description="how the base weights are kept")
    dtype: DType = Field("bfloat16", description="what the planned run computes in, and keeps base weights in")
    hidden_size: int
    num_layers: int
    stack_depths: Mapping[str, int] = Field(
        default_factory=dict,
        description="path of each list of modules -> how many it has: a decoder may have fewer layers than its encoder",
    )
    linear_sizes: Mapping[str, tuple[tuple[int, int], ...]] = Field(
        description="path of each Linear or Conv1D module -> its distinct (in_features, out_features)"
    )
    conv1d_paths: tuple[str, ...] = Field((), description="those of linear_sizes that are Conv1D (GPT-2)")
    norm_paths: tuple[str, ...] = ()
    bias_paths: tuple[str, ...] = Field((), description="paths of the parameters that are biases")
    module_paths: tuple[str, ...] = Field((), description="paths of all modules: names of targets must match no other")
    head_modules: tuple[str, ...] = Field(
        (), description="of a classifier: modules beside the base and the classification head, trained in full as that"
    )
    keeps_past: bool = Field(True, description="whether all layers attend to keys and values handed to the model")

    def depth_of(self, path: str) -> int:
        """How many layers the stack has that a path goes through first."""
        return self.stack_depths.get(path.partition(".*")[0], self.num_layers)

    @property
    def is_narrow(self) -> bool:
        """Whether the best learning rates are those of narrow models; see knowledge/methods/base.py."""
        return self.hidden_size <= NARROW_HIDDEN_SIZE

    @property
    def linear_modules(self) -> tuple[str, ...]:
        """Distinct last name parts of the linear modules, e.g. ('q_proj', 'k_proj', ...)."""
        return tuple(dict.fromkeys(path.rpartition(".")[2] for path in self.linear_sizes))
