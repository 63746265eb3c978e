"""Results as a real race makes them, with every kind of status, for tests of what is decided and shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from advisor.deciding.decision import decide
from advisor.recommendation import CandidateReport, Prediction, RaceReport, Result, TrainingPlan
from knowledge.schema import Curve, CurvePoint, MemoryEstimate, PlannedRun
from probes.schema import DatasetProfile, DeviceReport, ModelReport

GB = 10**9

LORA_CONFIG: dict[str, Any] = {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "r": 32,
    "lora_alpha": 64,
    "target_modules": ["q_proj", "v_proj"],
}


def curve(final_loss: float, steps: int = 60, points: int = 6, start: float = 2.4, metric: float = 0.3) -> Curve:
    """A falling curve that ends at `final_loss` with `metric`, evaluated at equal distances."""
    made = []
    for k in range(1, points + 1):
        share = k / points
        loss = final_loss + (start - final_loss) * math.exp(-5 * share) - (start - final_loss) * math.exp(-5)
        made.append(
            CurvePoint(
                step=round(steps * share),
                train_loss=loss + 0.02,
                eval_loss=loss,
                metric=metric * share,
                elapsed_s=0.5 * steps * share,
            )
        )
    return Curve(points=tuple(made), metric_name="exact match")


def memory(gigabytes: float, spread: float = 0.02) -> MemoryEstimate:
    peak = round(gigabytes * GB)
    return MemoryEstimate(
        peak_bytes=peak,
        low_bytes=round(peak * (1 - spread)),
        high_bytes=round(peak * (1 + spread)),
        breakdown={
            "weights": round(0.62 * peak),
            "adapter": round(0.01 * peak),
            "gradients": round(0.01 * peak),
            "optimizer": round(0.02 * peak),
            "activations": round(0.24 * peak),
            "logits": round(0.07 * peak),
            "overhead": round(0.03 * peak),
        },
    )


def candidate(
    name: str = "lora",
    quality: float | None = 0.5,
    gigabytes: float | None = 22.6,
    *,
    title: str | None = None,
    noise: float = 0.02,
    learning_rate: float = 1e-4,
    status: str = "finished",
    loss: float | None = None,
    loss_noise: float = 0.04,
    steps: int = 60,
    **fields: Any,
) -> CandidateReport:
    """A candidate with a predicted exact match of `quality` and a predicted loss that goes with it."""
    probed = status in ("finished", "eliminated", "reference") and quality is not None
    if loss is None and quality is not None:
        loss = 2.0 - 1.6 * quality
    values: dict[str, Any] = {
        "name": name,
        "title": title or name,
        "peft_type": "LORA",
        "learning_rate": learning_rate,
        "status": status,
        "curve": curve(loss, steps=steps, metric=quality) if probed else Curve(),
        "memory": None if gigabytes is None else memory(gigabytes),
        "planned_run_s": 1200.0,
        "trainable_parameters": 4_600_000,
        "adapter_bytes": 18_400_000,
        "forgetting": 0.12 if probed else None,
        "forgetting_noise": 0.03 if probed else None,
        "forgetting_share": 0.1 if probed else None,
        "capabilities": {"mergeable": True, "identity_start": True, "vllm": "adapter"},
        "peft_config": LORA_CONFIG,
    }
    if quality is not None:
        values["predicted"] = Prediction(
            metric="exact match", value=quality, low=max(0.0, quality - noise), high=min(1.0, quality + noise)
        )
        values["predicted_loss"] = Prediction(
            metric="eval loss", value=loss, low=loss - loss_noise, high=loss + loss_noise
        )
        values["baseline_value"] = 0.04
        values["baseline_loss"] = 2.4
    return CandidateReport(**{**values, **fields})


def device(limit_gigabytes: float = 24.0, **fields: Any) -> DeviceReport:
    limit = round(limit_gigabytes * GB)
    values: dict[str, Any] = {
        "kind": "cuda",
        "name": "NVIDIA RTX 4090",
        "total_bytes": limit,
        "free_bytes": limit - GB // 2,
        "limit_bytes": limit,
        "driver": "570.12",
    }
    return DeviceReport(**{**values, **fields})


def field_of_candidates() -> list[CandidateReport]:
    """A race of many kinds: ties, a frontier of three, every status."""
    prompt = {"mergeable": False, "vllm": "no", "identity_start": False}
    return [
        candidate("lora", 0.478, 22.6, title="LoRA", learning_rate=2e-4, forgetting=0.04),
        candidate("lora", 0.402, 22.6, title="LoRA", learning_rate=1e-4, status="eliminated", reason="left at step 20"),
        candidate("rslora", 0.532, 22.65, title="rsLoRA", planned_run_s=1230.0, planned_run_range_s=(1140.0, 1330.0)),
        candidate(
            "dora", 0.524, 23.4, title="DoRA", planned_run_s=1900.0, capabilities={"mergeable": True, "vllm": "merged"}
        ),
        candidate("lily", 0.601, 25.6, title="Lily", capabilities={"mergeable": False, "vllm": "no"}),
        candidate("oft", 0.491, 21.9, title="OFT", capabilities={"mergeable": True, "vllm": "merged"}),
        candidate(
            "beft", 0.329, 20.2, title="BEFT", learning_rate=1e-2, capabilities={"mergeable": False, "vllm": "no"}
        ),
        candidate(
            "ia3",
            0.41,
            21.5,
            title="IA³",
            status="eliminated",
            reason="behind at step 20: loss 1.31, the last kept 1.12",
        ),
        candidate(
            "vera",
            0.37,
            21.4,
            title="VeRA",
            status="eliminated",
            reason="behind at step 20: loss 1.44, the last kept 1.12",
        ),
        candidate(
            "prompt-tuning",
            None,
            21.0,
            title="Prompt tuning",
            status="diverged",
            reason="training loss is nan at step 14",
            capabilities=prompt,
        ),
        candidate(
            "boft", None, 30.1, title="BOFT", status="does not fit", reason="needs 30.1 GB, the device has 24.0 GB"
        ),
        candidate("adalora", None, 23.0, title="AdaLoRA", status="not tried", reason="the budget did not reach it"),
        candidate("shira", None, 22.9, title="SHiRA", status="out of memory", reason="out of memory at step 3"),
        candidate(
            "p-tuning",
            None,
            None,
            title="P-tuning",
            status="excluded",
            reason="not mergeable",
            violates=("mergeable",),
            capabilities=prompt,
        ),
        candidate("full", 0.56, 23.5, title="Full fine-tuning", status="reference", peft_type=None, peft_config=None),
    ]


def result(candidates: Sequence[CandidateReport] | None = None, **fields: Any) -> Result:
    """A whole answer, with its decision made from `candidates`."""
    card = device()
    planned = PlannedRun(max_steps=600, epochs=3.0, batch_size=8, max_length_tokens=512)
    profile = DatasetProfile(
        path="my.jsonl",
        format="prompt-completion",
        rows=2000,
        usable_rows=1980,
        tokenised_rows=1980,
        train_rows=1600,
        eval_rows=200,
        duplicate_rows=12,
        length_p50_tokens=96,
        length_p95_tokens=310,
        length_max_tokens=512,
        label_p50_tokens=22,
        label_total_tokens=44_000,
        dropped={"no labels left": 20},
        metric_name="exact match",
    )
    reports, decision = decide(
        field_of_candidates() if candidates is None else candidates, card, "accuracy", planned_run=planned, data=profile
    )
    values: dict[str, Any] = {
        "advisor_version": "0.1.0",
        "versions": {"peft": "0.21.2", "torch": "2.13.0", "transformers": "5.23.0"},
        "command": "advisor recommend --model meta-llama/Llama-3.2-3B --data my.jsonl --out out",
        "request": {"model": "meta-llama/Llama-3.2-3B", "data": "my.jsonl", "objective": "accuracy", "seed": 0},
        "model": ModelReport(
            reference="meta-llama/Llama-3.2-3B",
            source="hub",
            location="meta-llama/Llama-3.2-3B",
            model_type="llama",
            parameters=3_212_749_824,
            task="causal-lm",
        ),
        "data": profile,
        "device": card,
        "planned_run": planned,
        "candidates": tuple(reports),
        "race": RaceReport(
            budget_s=900,
            duration_s=871.4,
            workers=1,
            rungs=(
                {"steps": 20, "entered": 11, "trained": 11, "failed": 2, "duration_s": 512.0},
                {"steps": 60, "entered": 5, "trained": 5, "failed": 0, "duration_s": 340.2},
            ),
            not_tried=("AdaLoRA",),
        ),
        "recommendation": decision,
        "training": TrainingPlan(
            learning_rate=decision.learning_rate if decision else 1e-4,
            data_path="my.jsonl",
            data_format="prompt-completion",
            held_out_key=10**17,
            keyed_by="prompt",
            eval_rows=200,
            metric_name="exact match",
        ),
        "files": ("adapter_config.json", "train.py", "recommendation.json", "report.html"),
    }
    return Result(**{**values, **fields})


def of_chats(recommendation: Result) -> Result:
    """The same run on conversations, which every trainer reads, where it is of prompts and completions."""
    plan = recommendation.training
    if plan is None or plan.data_format != "prompt-completion":
        return recommendation
    chats = plan.model_copy(update={"data_format": "messages", "uses_chat_template": True})
    return recommendation.model_copy(update={"training": chats})
