"""Recommendations to train, a training that stops, and reports of those that have ended."""

from __future__ import annotations

from advisor.report.live_training import LiveTraining
from advisor.save import save
from advisor.training.training_report import TrainingReport
from knowledge.schema import Curve, CurvePoint
from tests.advisor.tiny_run import Case


def planned(folder, architecture="llama", method="lora", *, rate=None, **changes):
    """A recommendation in `folder`/rec with the tiny model that it is for, as `advisor recommend` leaves it."""
    case = Case(folder, architecture, method)
    made = case.result(**changes)
    pick = made.pick.model_copy(update={"learning_rate": rate or made.pick.learning_rate})
    decision = made.recommendation.model_copy(update={"learning_rate": pick.learning_rate})
    model = made.model.model_copy(update={"reference": made.model.location})
    made = made.model_copy(update={"model": model, "candidates": (pick,), "recommendation": decision})
    save(made, folder / "rec")
    return case, folder / "rec"


class Silent(LiveTraining):
    """Stops the run after a step, as Ctrl-C does."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(quiet=True)
        self.steps: list[int] = []
        self.said: list[str] = []
        self._stop_after = stop_after

    def message(self, text):
        self.said.append(text)

    def step(self, step, loss):
        self.steps.append(step)
        if step == self._stop_after:
            raise KeyboardInterrupt


def point(step, loss):
    return CurvePoint(step=step, eval_loss=loss, metric=0.5)


def report_of(folder, **changes) -> TrainingReport:
    made = {
        "advisor_version": "0.1.0",
        "versions": {"peft": "0.21.2"},
        "name": "lora",
        "title": "LoRA",
        "learning_rate": 1e-4,
        "max_steps": 600,
        "curve": Curve(points=(point(600, 1.2),), metric_name="exact match"),
        "baseline_loss": 2.4,
        "baseline_metric": 0.04,
        "comparisons": (
            {"quantity": "exact match", "kind": "quality", "predicted": 0.5, "low": 0.45, "high": 0.55, "reached": 0.6},
            {"quantity": "eval loss", "kind": "quality", "predicted": 1.2, "low": 1.1, "high": 1.3, "reached": 1.25},
            {"quantity": "peak memory", "kind": "bytes", "predicted": 2.2e10, "note": "not measured here"},
        ),
        "train_s": 1200.0,
        "peak_bytes": None,
        "trainable_parameters": 4_600_000,
        "adapter_bytes": 18_400_000,
        "reload_difference": 0.0,
        "device": "a card",
        "device_kind": "cuda",
        "dtype": "bfloat16",
        "created_at": "2026-11-22T00:00:00+00:00",
        "adapter": "adapter",
    }
    return TrainingReport.model_validate({**made, **changes})
