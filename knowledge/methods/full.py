"""Full fine-tuning, the reference that adapters are measured against."""

from __future__ import annotations

from knowledge.methods.base import Capabilities, Method

METHODS = (
    Method(
        name="full",
        title="Full fine-tuning",
        peft_type=None,
        family="full",
        summary="Trains every weight of the model. "
        "The reference for quality, at many times the memory, and the result is a whole model instead of an adapter.",
        paper="–",
        settings_source="PEFT's public method comparison (MetaMathQA, Llama-3.2-3B), full-finetuning/"
        "llama-3.2-3B-lr_0.00001; small models and short runs want more",
        learning_rates=(1e-5, 3e-5, 1e-4),
        supports_conv1d=True,
        # There is no adapter to merge: what is trained is what is served.
        capabilities=Capabilities(mergeable=False, restores_base=False, vllm="merged"),
        reference_only=True,
    ),
)
