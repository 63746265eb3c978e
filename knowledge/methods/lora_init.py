"""LoRA with other starts than zero: from the weight, from its gradient, or from the data."""

from __future__ import annotations

from typing import Any

from knowledge.methods.anchored_lora import set_anchor
from knowledge.methods.base import BENCHMARK, Capabilities, Method
from knowledge.methods.lora import LORA
from knowledge.methods.low_rank import LowRank

# The start is taken out of the base weights, so they are not what they were when the adapter is removed.
_REWRITES_BASE = Capabilities(mergeable=True, restores_base=False, quantized=(), vllm="adapter")
_ADAPTER_IN_FULL_PRECISION = Capabilities(mergeable=True, quantized=(), vllm="adapter")


class RewritesBase(LowRank):
    """Its initialisation takes the adapter's start out of the base; the start is kept, to save a plain LoRA."""

    @property
    def saved_rank_factor(self) -> int:
        return 2

    def after_wrapping(self, model: Any, calibration: Any) -> None:
        set_anchor(model)


class Eva(LowRank):
    def after_wrapping(self, model: Any, calibration: Any) -> None:
        from peft import initialize_lora_eva_weights

        initialize_lora_eva_weights(model, calibration.inputs, show_progress_bar=False)


class Corda(RewritesBase):
    def before_wrapping(self, model: Any, config: Any, calibration: Any) -> None:
        from peft.tuners.lora.corda import preprocess_corda

        def run() -> None:
            for row in calibration.single_rows:  # PEFT's hook reads one sequence at a time
                model(**row)

        preprocess_corda(model, config, run_model=run)


class LoraGa(RewritesBase):
    def before_wrapping(self, model: Any, config: Any, calibration: Any) -> None:
        from peft.tuners.lora.loraga import preprocess_loraga

        preprocess_loraga(model, config, train_step=lambda: calibration.backward(model))


def _start(method_class: type[LowRank], init: str, **changes: Any) -> Method:
    settings = {**LORA.settings, "init_lora_weights": init, **changes.pop("settings", {})}
    return LORA.variant(method_class, settings=settings, **changes)


METHODS = (
    _start(
        RewritesBase,
        "pissa_niter_16",
        name="pissa",
        title="PiSSA",
        summary="LoRA that starts from the main singular directions of each weight, which leave the frozen part. "
        "Learns faster at first than LoRA, whose start is random and zero.",
        paper="Meng et al., 2024, arXiv 2404.02948",
        settings_source="LoRA's settings; the fast decomposition with 16 iterations, as PEFT advises; lower rates, for "
        "it starts large",
        learning_rates=(3e-5, 1e-4, 3e-4),
        capabilities=_REWRITES_BASE,
    ),
    _start(
        RewritesBase,
        "olora",
        name="olora",
        title="OLoRA",
        summary="LoRA that starts from the QR decomposition of each weight, so that its factors are orthonormal. "
        "Converges faster than LoRA in the authors' runs.",
        paper="Büyükakyüz, 2024, arXiv 2406.01775",
        settings_source="LoRA's settings; lower rates, for it starts large",
        learning_rates=(3e-5, 1e-4, 3e-4),
        supports_conv1d=False,
        capabilities=_REWRITES_BASE,
    ),
    _start(
        Corda,
        "corda",
        name="corda",
        title="CorDA",
        summary="LoRA that starts from directions of each weight that matter for sample data of the task. "
        "Needs a pass over some data first.",
        paper="Yang et al., 2024, arXiv 2406.05223",
        settings={"corda_config": {"corda_method": "ipm"}},
        settings_source="LoRA's settings with PEFT's defaults for CorDA (instruction-previewed mode)",
        learning_rates=(3e-5, 1e-4, 3e-4),
        tasks=("causal-lm", "sequence-classification"),
        requires=("attr",),
        needs_batches=True,
        capabilities=_REWRITES_BASE,
    ),
    _start(
        LoraGa,
        "lora_ga",
        name="lora-ga",
        title="LoRA-GA",
        summary="LoRA that starts from the gradient of the task's loss, and follows full fine-tuning at first. "
        "Needs the gradient of a few batches first.",
        paper="Wang et al., 2024, arXiv 2407.05000",
        settings={"lora_ga_config": {}},
        settings_source="LoRA's settings with PEFT's defaults for LoRA-GA; lower rates, for it starts large",
        learning_rates=(3e-5, 1e-4, 3e-4),
        needs_batches=True,
        capabilities=_REWRITES_BASE,
    ),
    _start(
        Eva,
        "eva",
        name="eva",
        title="EVA",
        summary="LoRA whose first matrix starts from the directions in which the layer's inputs vary most. "
        "Needs a pass over some data first.",
        paper="Paischer et al., 2024, arXiv 2410.07170",
        settings={"eva_config": {"rho": 1.0}},
        settings_source="LoRA's settings; PEFT's defaults for EVA with equal ranks (rho 1)",
        tasks=("causal-lm", "sequence-classification"),
        needs_batches=True,
    ),
    _start(
        LowRank,
        "orthogonal",
        name="lora-orthogonal",
        title="LoRA (orthogonal start)",
        summary="LoRA whose two matrices start as parts of one random orthogonal matrix. "
        "Both get gradients from the first step, while the update still starts at zero.",
        paper="Datta, 2024 (datta0.github.io/posts/rethink-lora-init)",
        settings_source="LoRA's settings",
        capabilities=_ADAPTER_IN_FULL_PRECISION,
    ),
    _start(
        LowRank,
        "mica",
        name="mica",
        title="MiCA",
        summary="LoRA whose second matrix is frozen at the directions that the weight uses least. "
        "Fewer trainable parameters than LoRA; meant to keep what the model knows, though on the public benchmark it "
        "forgot more.",
        paper="arXiv 2604.01694",
        settings_source=f"{BENCHMARK}, lora/llama-3.2-3B-rank32-mica",
        saved_size_differs=True,
        capabilities=_ADAPTER_IN_FULL_PRECISION,
    ),
)
