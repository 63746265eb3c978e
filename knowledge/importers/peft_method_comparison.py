"""Result files of PEFT's "method comparison" suite (github.com/huggingface/peft, folder method_comparison).

One JSON file per run with `run_info`, `train_info` and `meta_info`. Files of 2025 call the accelerator's memory
`cuda_memory_*` and the device `system_info.gpu`; both spellings are read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from knowledge.era import software_era
from knowledge.importers import NotARun, as_not_a_run
from knowledge.schema import Curve, CurvePoint, RunRecord, Task

FORMAT = "PEFT method comparison"


@dataclass(frozen=True)
class Suite:
    """What the name of the final metric tells about a run."""

    name: str
    task: Task
    validation: str
    drift: str


SUITES = {
    "test accuracy": Suite("metamathqa", "causal-lm", "valid accuracy", "forgetting"),
    "test dino_similarity": Suite("image-gen", "text-to-image", "valid dino_similarity", "drift"),
}

# Keys of adapter_config.json that say nothing about the method's settings.
BOOKKEEPING = {"task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"} | {
    "inference_mode",
    "megatron_config",
    "megatron_core",
}
MLP_MODULES = {"gate_proj", "up_proj", "down_proj"}
ATTENTION_MODULES = {"q_proj", "k_proj", "v_proj", "o_proj"}
# Settings of LoRA that make another method of it, and starts that are called otherwise in the catalogue.
SWITCHES = {
    "use_dora": "dora",
    "use_rslora": "rslora",
    "use_qalora": "qa-lora",
    "use_bdlora": "bd-lora",
    "velora_config": "velora",
    "monteclora_config": "monteclora",
    "kasa_config": "kasa",
}
# Of LoRA's optimizers, as the suite and PEFT write them.
OPTIMIZERS = {
    "lora-fa": "lora-fa",
    "lora-plus": "lora-plus",
    "loraplus": "lora-plus",
    "lora+": "lora-plus",
    "riemannian": "lora-riemannian",
}
STARTS = {"orthogonal": "lora-orthogonal"}
# PEFT renamed Bone to MiSS in 0.18; its variants are the same code.
RENAMED = {"BONE": "MISS"}
PACKAGES = ("peft", "transformers", "torch", "datasets", "bitsandbytes", "diffusers")


def recognises(content: Any) -> bool:
    return isinstance(content, Mapping) and {"run_info", "train_info"} <= content.keys()


def read(content: Mapping[str, Any]) -> RunRecord:
    """One run of the suite. Raises NotARun where it did not finish or a needed field is missing or invalid."""
    with as_not_a_run():
        return _read(content)


def _read(content: Mapping[str, Any]) -> RunRecord:
    run, train, meta = content["run_info"], content["train_info"], content.get("meta_info") or {}
    config, adapter = run["train_config"], run.get("peft_config") or {}
    if train.get("status", "success") != "success":
        raise NotARun(f"the run ended with status {train['status']!r}: {run.get('error_msg') or 'no message'}")
    if not train["metrics"]:
        raise NotARun("the run has no evaluation")
    *_, final = train["metrics"]
    metric_name = next((name for name in final if name in SUITES), None)
    if metric_name is None:
        raise NotARun(f"the last evaluation has none of {sorted(SUITES)}: it has {sorted(final)}")
    suite, metric = SUITES[metric_name], _finite(final[metric_name])
    if metric is not None and abs(metric) > 1:
        raise NotARun(f"{metric_name} is {metric:g}: the suite writes shares, at most 1")
    optimizer = config.get("optimizer_kwargs") or {}
    versions = _versions(meta)
    era = software_era(versions, without_cuda="cuda?")
    return RunRecord(
        benchmark=f"{suite.name}/{config['model_id'].split('/')[-1].lower()}/{era}",
        experiment=run["experiment_name"],
        method=method_name(adapter, config.get("optimizer_type", "AdamW")),
        task=suite.task,
        model=config["model_id"],
        peft_type=_peft_type(adapter),
        peft_config=_settings(adapter),
        learning_rate=optimizer["lr"],
        optimizer=config.get("optimizer_type", "AdamW"),
        weight_decay=optimizer.get("weight_decay", 0.0),
        scheduler=config.get("lr_scheduler"),
        batch_size=config["batch_size"],
        max_steps=config["max_steps"],
        max_length_tokens=config.get("max_seq_length", config.get("max_sequence_length")),
        label_mean_tokens=_tokens_per_row(final),
        dtype=config["dtype"],
        seed=config.get("seed", 0),
        gradient_checkpointing=config.get("use_gc", False),
        curve=_curve(train["metrics"], suite.validation),
        metric_name=metric_name,
        metric=metric,
        drift=_finite(final.get(suite.drift)),
        drift_name=suite.drift if _finite(final.get(suite.drift)) is not None else None,
        peak_bytes=_memory(train, "memory_max"),
        mean_reserved_bytes=_memory(train, "memory_reserved_avg"),
        train_s=_finite(train.get("train_time"), digits=2),
        adapter_bytes=train.get("file_size"),
        trainable_parameters=train.get("num_trainable_params"),
        total_parameters=train.get("num_total_params"),
        device=_device(meta),
        versions=versions,
        created_at=run["created_at"],
        source="peft-method-comparison",
    )


def method_name(adapter: Mapping[str, Any], optimizer: str) -> str:
    """The catalogue's name of what was trained, from its settings: file and experiment names are free text.

    A variant that the catalogue does not have gets its PEFT type (lower case, dashes) and what sets it apart.
    """
    if not adapter:
        return "full"
    name = _peft_type(adapter).lower().replace("_", "-")
    if name == "lora":
        return _lora_variant(adapter, optimizer)
    variant = adapter.get("init_weights")
    if name == "miss" and isinstance(variant, str):
        return f"miss-{variant}"
    return name


def _peft_type(adapter: Mapping[str, Any]) -> str | None:
    """PEFT's type by its name of today; None without an adapter."""
    return RENAMED.get(adapter["peft_type"], adapter["peft_type"]) if adapter else None


def _lora_variant(adapter: Mapping[str, Any], optimizer: str) -> str:
    start = adapter.get("init_lora_weights", True)
    targets = adapter.get("target_modules") or ()
    modules = {targets} if isinstance(targets, str) else set(targets)
    if (of_optimizer := OPTIMIZERS.get(optimizer.lower())) is not None:
        return of_optimizer
    for switch, name in SWITCHES.items():
        if adapter.get(switch):
            return name
    if isinstance(start, str) and start not in {"gaussian", "true"}:
        start = start.lower().partition("_niter")[0].replace("_", "-")
        return STARTS.get(start, start)
    if modules <= MLP_MODULES and modules:
        return "lora-mlp"
    if modules == ATTENTION_MODULES:
        return "lora-attention"
    if modules == {"all-linear"} or modules >= MLP_MODULES | ATTENTION_MODULES:
        return "lora-all-linear"
    return "lora"


def _settings(adapter: Mapping[str, Any]) -> dict[str, Any]:
    """The adapter's settings without bookkeeping and without what is null or empty."""
    kept = {k: v for k, v in adapter.items() if k not in BOOKKEEPING and v is not None and v != {} and v != []}
    targets = kept.get("target_modules")
    if isinstance(targets, list):  # written from a set: the order carries nothing and differs between runs
        kept["target_modules"] = sorted(targets)
    return kept


def _tokens_per_row(final: Mapping[str, Any]) -> float | None:
    """The suite takes the loss of whole texts, the questions included."""
    tokens, rows = final.get("train total tokens"), final.get("train samples")
    return round(tokens / rows, 1) if tokens and rows else None


def _curve(metrics: list[Mapping[str, Any]], validation: str) -> Curve:
    """The evaluations during training; the last entry of the file holds the final test instead."""
    points, elapsed_s = [], 0.0
    for entry in metrics:
        if validation not in entry:
            continue
        elapsed_s += entry.get("train time", 0.0)
        points.append(
            CurvePoint(
                step=entry["step"],
                train_loss=_finite(entry.get("train loss"), digits=6),
                metric=_finite(entry[validation], digits=6),
                elapsed_s=round(elapsed_s, 2),
            )
        )
    return Curve(points=tuple(points), metric_name=validation)


def _finite(value: float | None, digits: int = 9) -> float | None:
    """A diverged run writes NaN: such a value was not measured."""
    return round(value, digits) if value is not None and math.isfinite(value) else None


def _memory(train: Mapping[str, Any], field: str) -> int | None:
    """Bytes reserved on the device. Zero means that no accelerator was there to be measured."""
    value = train.get(f"accelerator_{field}", train.get(f"cuda_{field}"))
    return int(value) if value else None


def _device(meta: Mapping[str, Any]) -> str:
    system = meta.get("system_info") or {}
    return system.get("accelerator") or system.get("gpu") or "unknown"


def _versions(meta: Mapping[str, Any]) -> dict[str, str]:
    found = meta.get("package_info") or {}
    return {name: found[f"{name}-version"] for name in PACKAGES if found.get(f"{name}-version")}
