"""Another candidate in the place of the recommended one: the user's choice, with what it gives up or gains.

A tie, or a point of the frontier, may suit someone better for reasons that no one has told the advisor. Nothing is
measured anew: the same evidence is told from where the chosen one stands.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from advisor.candidates import candidate_id
from advisor.deciding.case import Case
from advisor.deciding.decision import weigh
from advisor.deciding.frontier import COMPARABLE
from advisor.deciding.quality import QualityField, point_of
from advisor.deciding.rates import best_of_each_method
from advisor.deciding.wording import compare, explain, standing
from advisor.gather import JOURNAL_FILE
from advisor.recommendation import CandidateReport, Result
from advisor.result import facts_of_method
from advisor.save import RESULT_FILE, load, save
from advisor.text import rate_text
from knowledge.errors import BadInput
from knowledge.methods import catalogue_name, get_method


def choose(result: Result, method: str, learning_rate: float | None = None) -> Result:
    """The result with that method as the pick, at that learning rate or at the best of its rates in the race.

    method: a name or title of the catalogue; that of the recommended one takes a choice back.
    Raises BadInput where nothing was recommended, or where nothing is known of the end of such a run here.
    """
    decision, judged, case = result.recommendation, [], None
    if decision is not None:
        judged, case = weigh(
            result.candidates, result.device, decision.objective, planned_run=result.planned_run, data=result.data
        )
    if case is None:
        raise BadInput("Nothing came through this race, so there is nothing to choose from: see `advisor report`.")
    chosen = _find(judged, case.quality, catalogue_name(method), learning_rate)
    view = replace(case, pick=chosen)
    decision = explain(view, instead_of=None if chosen is case.pick else case.pick)
    plan = result.training
    return result.model_copy(
        update={
            "candidates": tuple(_seen_from(chosen, _unexplained(judged, result, case.quality), view)),
            "recommendation": decision,
            "training": None if plan is None else plan.model_copy(update=facts_of_method(decision)),
            "files": (),
        }
    )


def choose_in(folder: Path, method: str, learning_rate: float | None = None, out: Path | None = None) -> Path:
    """Writes the choice from `folder` to a folder of its own, `out` or one beside it named after the method, and
    returns that. What the race has trained of the run goes along, so that `advisor train` goes on from there.

    Raises BadInput like `choose`, and where a recommendation of something else lies in `out`.
    """
    result = choose(load(folder), method, learning_rate)
    pick = result.pick
    named = folder.resolve() if folder.name in ("", "..") else folder
    target = out or named.with_name(f"{named.name}-{pick.name}")
    _check_free(target, result)
    save(result, target)
    _bring_along(
        candidate_id(get_method(pick.name), pick.learning_rate, pick.peft_config, result.planned_run), folder, target
    )
    return target


def _bring_along(probe: str, folder: Path, target: Path) -> None:
    """Copies what the race has trained of a run, whole or not at all."""
    if not (folder / probe).is_dir() or (target / probe).exists():
        return
    shutil.copyfile(folder / JOURNAL_FILE, target / JOURNAL_FILE)
    partial = target / f".{probe}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder / probe, partial)
    partial.rename(target / probe)


def _find(
    candidates: Sequence[CandidateReport], quality: QualityField, name: str, learning_rate: float | None
) -> CandidateReport:
    known = [c for c in candidates if _is_known(c, quality)]
    rates = [c for c in known if c.name == name]
    if not rates:
        reason = next((c.reason or c.status for c in candidates if c.name == name), "nothing here was run with it")
        names = ", ".join(sorted({c.name for c in known}))
        raise BadInput(f"Of {name!r} nothing can be told ({reason}). Choose from {names}.")
    if learning_rate is None:
        return best_of_each_method(rates, quality)[0]
    for c in rates:
        if abs(c.learning_rate - learning_rate) < 1e-6 * learning_rate:
            return c
    tried = ", ".join(rate_text(c.learning_rate) for c in sorted(rates, key=lambda c: c.learning_rate))
    raise BadInput(f"{name} is not known here at learning rate {rate_text(learning_rate)}. Choose from {tried}.")


def _is_known(candidate: CandidateReport, quality: QualityField) -> bool:
    """Full fine-tuning too, which is never recommended."""
    point = point_of(candidate, quality)
    is_measured = candidate.status in (*COMPARABLE, "reference")
    return is_measured and candidate.fits is not False and point is not None and point.is_finite


def _unexplained(
    candidates: Iterable[CandidateReport], result: Result, quality: QualityField
) -> Iterable[CandidateReport]:
    """The candidates without what was said of them against the earlier pick."""
    earlier = result.pick
    for c in candidates:
        is_told = point_of(c, quality) is not None and c.reason == compare(c, earlier, quality)
        yield c.model_copy(update={"reason": ""}) if is_told else c


def _seen_from(chosen: CandidateReport, candidates: Iterable[CandidateReport], view: Case) -> Iterable[CandidateReport]:
    for c in candidates:
        yield c if c.identity == chosen.identity else c.model_copy(update={"reason": standing(c, view)})


def _check_free(target: Path, result: Result) -> None:
    """Raises BadInput where anything but this very choice lies there."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    there = load(target) if (target / RESULT_FILE).is_file() else None
    if there is None or _identity(there) != _identity(result):
        raise BadInput(f"{target} already holds something else. Give another --out.")


def _identity(result: Result) -> tuple:
    pick = result.pick
    return result.created_at, result.benchmark, result.model.reference, pick and pick.identity
