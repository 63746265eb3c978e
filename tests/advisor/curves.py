"""Curves of made-up runs that fall by a power of their steps, for the tests of forecasts."""

from __future__ import annotations

import numpy as np

from advisor.forecast.end_model import Probe
from advisor.forecast.log_curve import LogCurve
from knowledge.importers.peft_method_comparison import read
from knowledge.schema import Curve, CurvePoint, RunRecord
from tests.knowledge.suite_files import llm_run

STEPS = 1000
SHARES = np.arange(1, 21) / 20
PUBLISHED = "metamathqa/llama-3.2-3b/transformers5-cuda13.0"


def curve(start: float, power: float, until: float = 1.0, metric=None, field: str = "eval_loss") -> Curve:
    """A power law in the steps, evaluated every twentieth of the run."""
    losses = start * (SHARES * 20) ** -power
    points = [
        CurvePoint(step=round(share * STEPS), metric=metric(loss) if metric else None, **{field: loss})
        for share, loss in zip(SHARES, losses, strict=True)
        if share <= until + 1e-9
    ]
    return Curve(points=tuple(points), metric_name="accuracy")


def record(name: str, start: float, power: float) -> RunRecord:
    """A finished run of the table with such a curve."""
    made = read(llm_run({"peft_type": name.upper(), "r": 8}, experiment=name))
    return made.model_copy(update={"curve": curve(start, power, field="train_loss"), "max_steps": STEPS})


def table(count: int = 40) -> list[RunRecord]:
    """Runs of one suite whose further fall follows from the fall so far."""
    rng = np.random.default_rng(0)
    return [record(f"m{i:02}", rng.uniform(0.8, 1.2), rng.uniform(0.05, 0.3)) for i in range(count)]


def probe(curve: Curve) -> Probe:
    return Probe(curve, learning_rate=1e-4, trainable_parameters=10**6)


def flattened(seen: LogCurve) -> LogCurve:
    """The same beginning, but nothing more happens after a tenth of the run."""
    return LogCurve(seen.fractions, np.where(seen.fractions > 0.1, seen.at(0.1), seen.log_losses))
