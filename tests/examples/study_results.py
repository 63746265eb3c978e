"""Makes results of the study with chosen losses, for the tests of what reads them."""

from __future__ import annotations

from examples.study.records import StudyResult, StudyRun
from examples.study.schedules import (
    FRACTIONS,
    branch_schedule,
    full_eval_steps,
    full_schedule,
    rung,
    short_schedule,
)
from knowledge.schema import CurvePoint

STEPS = 100


def result(
    method: str = "lora",
    learning_rate: float = 1e-3,
    *,
    final: float = 1.0,
    prefix: float | None = None,
    short: float | None = None,
    branch: float | None = None,
    metric: float = 0.5,
    seed: int = 0,
    task: str = "chain_sum",
    status: str = "finished",
) -> StudyResult:
    """A candidate whose probes of every length end at the given losses, by default at the final one."""
    steps = full_eval_steps(STEPS)
    losses = [final if prefix is None else prefix] * (len(steps) - 1) + [final]
    points = [CurvePoint(step=s, eval_loss=loss, metric=metric) for s, loss in zip(steps, losses, strict=True)]
    full = StudyRun(
        protocol="full",
        fraction=1.0,
        schedule=full_schedule(STEPS),
        status=status,
        points=points if status == "finished" else points[:1],
        cpu_s=100.0,
        train_share=0.8,
    )
    probes = [
        StudyRun(
            protocol=protocol,
            fraction=fraction,
            schedule=schedule(rung(fraction, STEPS)),
            status="finished",
            points=[CurvePoint(step=rung(fraction, STEPS), eval_loss=final if loss is None else loss)],
        )
        for fraction in FRACTIONS
        for protocol, loss, schedule in (
            ("short", short, short_schedule),
            ("branch", branch, lambda length: branch_schedule(length, STEPS)),
        )
    ]
    return StudyResult(
        task=task,
        benchmark=f"{task}/smollm2-135m",
        kind="causal-lm",
        model="HuggingFaceTB/SmolLM2-135M-Instruct",
        method=method,
        learning_rate=learning_rate,
        seed=seed,
        peft_config={"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 32, "target_modules": ["q_proj", "v_proj"]},
        weight_decay=0.1,
        optimizer="torch.optim:AdamW",
        batch_size=8,
        max_steps=STEPS,
        max_length_tokens=64,
        label_mean_tokens=3.5,
        train_rows=1000,
        eval_rows=100,
        metric_name="exact match",
        baseline_loss=5.0,
        baseline_metric=0.0,
        trainable_parameters=1000,
        adapter_bytes=4000,
        peak_bytes=10**9,
        runs=(full, *probes),
        device="a processor",
        threads=1,
        versions={"torch": "2.13.0", "transformers": "5.23.0", "peft": "0.21.2"},
        created_at="2026-11-22T02:00:00+00:00",
    )
