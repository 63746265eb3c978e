"""Told and reached: the whole product on tasks that the table does not know, held against runs to their end.

    python -m tests.benchmarks.trials --out DIR [--budget 5] [--trial NAME ...] [--json]

For each task of tests.benchmarks.trial_tasks: `recommend` within the budget (minutes), then the pick and tuned LoRA are
trained to the end of the planned run. It can be stopped and started again; what is done is known by its files in DIR.
An own table is neither read nor written. Times are of a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from advisor import recommend
from advisor.choice import choose_in
from advisor.deciding.case import Case
from advisor.deciding.decision import weigh
from advisor.deciding.quality import beats, noise_between, value_of
from advisor.recommendation import CandidateReport, Result
from advisor.save import RESULT_FILE, load
from advisor.training.model_card import comparison_cells
from advisor.training.train import train
from advisor.training.training_report import Comparison, TrainingReport
from examples.study.tasks import packaged_model
from knowledge.prior import REFERENCE
from tests.benchmarks.trial_tasks import TRIALS, Trial


def measure(trial: Trial, folder: Path, budget_minutes: float) -> dict[str, Any]:
    """What was told of the pick and of LoRA, what they reached, and the difference between them."""
    folder.mkdir(parents=True, exist_ok=True)
    data, pick_folder = folder / "data.jsonl", folder / "pick"
    if not data.exists():
        trial.write(data)
    if not (pick_folder / RESULT_FILE).exists():
        model, has_begun = packaged_model(trial.package), pick_folder.exists()
        recommend(model, data, out=pick_folder, budget_minutes=budget_minutes, resume=has_begun)
    result = load(pick_folder)
    if result.recommendation is None:
        raise SystemExit(
            f"{pick_folder}: no probe came through in {budget_minutes:g} minutes. Remove it, and give more."
        )
    case = _case(result)
    reached = _trained(train(pick_folder, resume=True))
    lora, of_lora = case.lora, reached
    if lora is not None and lora is not case.pick:
        of_lora = _trained(train(choose_in(pick_folder, lora.name, lora.learning_rate, folder / "lora"), resume=True))
    return {
        "pick": {"method": case.pick.name, "learning_rate": case.pick.learning_rate, **reached},
        "lora": {"learning_rate": lora.learning_rate, **of_lora} if lora else None,
        "gain": _gain(case, lora, reached, of_lora) if lora else None,
    }


def _case(result: Result) -> Case:
    objective = result.recommendation.objective
    return weigh(result.candidates, result.device, objective, planned_run=result.planned_run, data=result.data)[1]


def _trained(report: TrainingReport) -> dict[str, Any]:
    return {"comparisons": [c.model_dump(mode="json") | {"inside": c.inside} for c in report.comparisons]}


def _gain(case: Case, lora: CandidateReport, reached: dict[str, Any], of_lora: dict[str, Any]) -> dict[str, Any]:
    """Of the pick over LoRA, positive where the pick is better, in the quality that decided."""
    sign = -1 if case.metric == "eval loss" else 1
    ends = [next(c["reached"] for c in r["comparisons"] if c["quantity"] == case.metric) for r in (reached, of_lora)]
    return {
        "quantity": case.metric,
        "told": value_of(case.pick, case.quality) - value_of(lora, case.quality),
        "half_width": noise_between(case.pick, lora, case.quality),
        "beyond_noise": beats(case.pick, lora, case.quality),
        "reached": sign * (ends[0] - ends[1]),
    }


def lines(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """The table in Markdown, and what holds over all of it."""
    yield "| task | trained | quantity | told | 80 % interval | reached | |"
    yield "|---|---|---|---|---|---|---|"
    inside: dict[str, list[bool]] = {}
    for task, who, title, comparison in _compared(found):
        yield f"| {task} | {title} | {' | '.join(comparison_cells(comparison))} |"
        if comparison.inside is not None:
            what = {"eval loss": "loss", "training time": "time"}.get(comparison.quantity, "metric")
            inside.setdefault(f"{what} of the {who}", []).append(comparison.inside)
    yield ""
    for what, held in inside.items():
        yield f"{what}: {sum(held)} of {len(held)} inside the 80 % interval"
    for task, trial in found.items():
        if g := trial["gain"]:
            word = "beyond noise" if g["beyond_noise"] else "within noise"
            told = f"{g['told']:+.3f} (± {g['half_width']:.3f}, {word})"
            yield f"{task}: gain over LoRA in {g['quantity']}: told {told}, reached {g['reached']:+.3f}"


def _compared(found: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, str, Comparison]]:
    """(task, pick or lora, what was trained, one quantity) of all that was measured; LoRA as the pick comes once."""
    for task, trial in found.items():
        pick, lora = trial["pick"], trial["lora"]
        trained = {"pick": f"{pick['method']} (pick)"}
        if lora and (pick["method"], pick["learning_rate"]) != (REFERENCE, lora["learning_rate"]):
            trained["lora"] = REFERENCE
        for who, title in trained.items():
            for entry in trial[who]["comparisons"]:
                comparison = Comparison.model_validate({k: v for k, v in entry.items() if k != "inside"})
                if comparison.kind != "bytes" and comparison.reached is not None:
                    yield task, who, f"{title} {trial[who]['learning_rate']:g}", comparison


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the trials")
    parser.add_argument("--budget", type=float, default=5.0, help="minutes for probing, each")
    parser.add_argument("--trial", action="append", choices=list(TRIALS), help="only this task; repeatable")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    options = parser.parse_args()
    os.environ["ADVISOR_DATA_DIR"] = str(options.out.resolve() / "no-own-table")
    found = {name: measure(TRIALS[name], options.out / name, options.budget) for name in options.trial or TRIALS}
    print(json.dumps(found, indent=2) if options.json else "\n".join(lines(found)))


if __name__ == "__main__":
    main()
