"""Which modules of a model a method adapts: from a role ("attention-qv") to the names PEFT matches.

The roles are found from the model's own module paths, by naming habits that hold across architectures
(tests/knowledge/test_targets.py checks them on the architectures in use). Output heads, classifiers, poolers and
the routers of mixture-of-experts layers are never adapted: only what lies inside the repeated layers counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from knowledge.errors import BadInput
from knowledge.shape import ModelShape

Targets = Literal[
    "none",  # the method picks its own place: prompts, all weights
    "attention-qv",  # query and value projections, fused ones where the model fuses them
    "attention-v",
    "attention",
    "mlp",
    "attention+mlp",
    "all-linear",  # every linear module in the repeated layers
    "norms",
]

# The names that PEFT takes for a classification head: it trains them in full beside the adapter (peft.peft_model,
# classifier_module_names), so they are never quantised.
CLASSIFICATION_HEADS = ("classifier", "score")

_IN_ATTENTION = re.compile(r"(?i)\b\w*(attn|attention)\w*\.")
_IN_MLP = re.compile(
    r"(?i)\b(\w*mlp|ffn?|\w*feed_?forward|densereludense|\w*experts?|intermediate)\."  # by the enclosing module
    r"|\*\.(fc1|fc2|fc_in|fc_out|lin1|lin2|output\.dense)$"  # by name, directly in the layer: OPT, BART, BERT
)
_ROUTER = re.compile(r"\.(gate|router|router_proj|shared_expert_gate|classifier)$")
_QUERY = re.compile(r"\.(q|q_proj|query|query_proj|q_lin|q_a_proj|q_b_proj)$")
_VALUE = re.compile(r"\.(v|v_proj|value|value_proj|v_lin|kv_proj|kv_b_proj)$")
_FUSED = re.compile(r"\.(qkv|qkv_proj|c_attn|query_key_value|Wqkv|W_pack|in_proj)$")

# Their kernels read the weight of `out_proj` past any adapter, so PEFT refuses it (peft.tuners.tuners_utils).
_WITH_SCANS = ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")

# Of models that see or hear too: no text goes through these, so nothing in them would learn.
_OF_OTHER_SENSES = re.compile(
    r"(^|\.)(vision_tower|vision_model|visual|audio_tower|multi_modal_projector|embed_vision|embed_audio)\."
)


def goes_through_text(path: str) -> bool:
    """Whether a text goes through a module or parameter of that name."""
    return not _OF_OTHER_SENSES.search(path)


def target_paths(shape: ModelShape, targets: Targets) -> tuple[str, ...]:
    """Paths of the modules that have the role `targets`.

    Raises BadInput where the model has none: its experts may be plain tensors, or its names unknown.
    """
    if targets == "norms":
        found = [path for path in shape.norm_paths if goes_through_text(path)]
    else:
        linear = [path for path in shape.linear_sizes if goes_through_text(path)]
        layers = [path for path in linear if "*" in path and not _ROUTER.search(path)]
        if shape.model_type in _WITH_SCANS:
            layers = [path for path in layers if not path.endswith(".out_proj")]
        attention = [path for path in layers if _IN_ATTENTION.search(path)]
        mlp = [path for path in layers if path not in attention and _IN_MLP.search(path)]
        values = [path for path in attention if _VALUE.search(path)]
        fused = [path for path in attention if _FUSED.search(path)]
        found = {
            "none": [],
            "attention": attention,
            "mlp": mlp,
            "attention+mlp": attention + mlp if attention and mlp else [],
            "all-linear": layers,
            "attention-v": values or fused,
            "attention-qv": [path for path in attention if _QUERY.search(path) or path in values] if values else fused,
        }[targets]
    if not found and targets != "none":
        known = ", ".join(shape.norm_paths if targets == "norms" else shape.linear_sizes) or "none"
        raise BadInput(
            f"No modules for the targets {targets!r} in a {shape.model_type} model. Its modules of that kind: {known}."
        )
    return tuple(found)


def target_modules(shape: ModelShape, targets: Targets) -> list[str] | str:
    """The value of PEFT's `target_modules`: name endings, or one regular expression where endings are ambiguous.

    In BERT, for example, `output.dense` ends both the MLP's and the attention's output.
    """
    return module_names(shape, target_paths(shape, targets))


def module_names(shape: ModelShape, paths: Iterable[str]) -> list[str] | str:
    """Shortest name endings that match `paths` and no other module, sorted; else a regex."""
    wanted = set(paths)
    others = [path for path in (*shape.linear_sizes, *shape.norm_paths, *shape.module_paths) if path not in wanted]
    endings = set()
    for path in wanted:
        parts = path.rpartition("*.")[2].split(".")
        candidates = [".".join(parts[start:]) for start in reversed(range(len(parts))) if "*" not in parts[start:]]
        ending = next((c for c in candidates if not any(o == c or o.endswith(f".{c}") for o in others)), None)
        if ending is None:
            return "|".join(re.escape(p).replace(r"\*", r"\d+") for p in sorted(wanted))
        endings.add(ending)
    return sorted(endings)


def join_names(*names: list[str] | str) -> list[str] | str:
    """One value for several results of `module_names`: a list where all are lists, else one regex."""
    if all(isinstance(n, list) for n in names):
        return sorted({ending for n in names for ending in n})
    as_regex = [n if isinstance(n, str) else "|".join(rf"(?:.*\.)?{re.escape(e)}" for e in n) for n in names]
    return "|".join(as_regex)
