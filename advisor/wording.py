"""A decision in plain words: reasons, alternatives, warnings and confidence, with numbers and units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from advisor.costs import Scale
from advisor.forgetting import forgets_more
from advisor.quality import QualityField, beats, leads, noise_between, point_of, tied, value_of
from advisor.recommendation import CandidateReport, Decision, Prediction
from advisor.request import Objective
from advisor.text import bytes_text, difference_text, duration_text, is_percentage, rate_text
from knowledge.schema import PlannedRun
from probes.schema import DatasetProfile, DeviceReport

LORA = "lora"  # the catalogue's plain LoRA: what nearly everyone uses, so every pick is measured against it
SMALL_HELD_OUT_ROWS = 100
SHORT_PROBE = 0.1  # at a tenth of the run the warm-up is over; before it, short probes favour who moves fastest
LIKELY_BEST = "taken because it will probably end best"
STEEP_FALL = 0.05  # share of the loss that still went away in the second half of a probe
NARROW_FIT = 0.95  # share of the limit above which an unlucky batch may end in an out-of-memory error
RIVALS_NAMED = 3


@dataclass(frozen=True)
class Case:
    """Everything that a decision is explained with. `rivals` holds each method at its best rate, `contenders` those of
    them that might have been picked."""

    pick: CandidateReport
    target: CandidateReport
    rivals: Sequence[CandidateReport]
    contenders: Sequence[CandidateReport]
    candidates: Sequence[CandidateReport]
    objective: Objective
    quality: QualityField
    device: DeviceReport
    planned_run: PlannedRun | None
    data: DatasetProfile | None

    @property
    def scale(self) -> Scale:
        return Scale(self.objective, self.quality, self.device.limit_bytes)

    @property
    def prediction(self) -> Prediction:
        return getattr(self.pick, self.quality)

    @property
    def metric(self) -> str:
        return self.prediction.metric

    @property
    def lora(self) -> CandidateReport | None:
        return next((c for c in self.rivals if c.name == LORA), None)

    @property
    def others_by_quality(self) -> list[CandidateReport]:
        others = [c for c in self.rivals if c is not self.pick]
        return sorted(others, key=lambda c: (-value_of(c, self.quality), c.name))

    @property
    def ties(self) -> list[CandidateReport]:
        return [c for c in self.others_by_quality if tied(self.pick, c, self.quality)]

    @property
    def as_good(self) -> list[CandidateReport]:
        """Of the ties that might have been picked those that are not even probably worse than what is asked for."""
        return [c for c in self.ties if c in self.contenders and not leads(self.target, c, self.quality)]

    @property
    def probed_share(self) -> float | None:
        """How far into the planned run the pick was probed, from 0 to 1; None where that is unknown."""
        if self.planned_run is None or not self.pick.curve.points:
            return None
        return self.pick.curve.last_step / self.planned_run.max_steps


def explain(case: Case) -> Decision:
    """The decision about `case.pick`."""
    pick = case.pick
    return Decision(
        name=pick.name,
        title=pick.title,
        learning_rate=pick.learning_rate,
        objective=case.objective,
        compared_by=case.metric,
        confidence=_confidence(case),
        gain_over_lora=_gain_over_lora(case),
        reasons=tuple(_reasons(case)),
        ties=tuple(c.title for c in case.ties),
        alternatives=tuple(_alternatives(case)),
        warnings=tuple(_warnings(case)),
    )


def compare(one: CandidateReport, other: CandidateReport, quality: QualityField) -> str:
    """How `one` stands against `other`: '0.043 worse in eval loss (± 0.020), needs 310 MB more, takes 4 min longer',
    with the 80 % half-width of the difference."""
    metric = getattr(one, quality).metric
    lead = value_of(one, quality) - value_of(other, quality)
    if tied(one, other, quality):
        parts = [f"equal within noise in {metric}"]
    else:
        within = difference_text(noise_between(one, other, quality), metric).removesuffix(" points")
        parts = [f"{difference_text(lead, metric)} {'better' if lead > 0 else 'worse'} in {metric} (± {within})"]
    parts.append(_memory_difference(one, other))
    parts.append(_time_difference(one, other))
    return ", ".join(part for part in parts if part)


def standing(candidate: CandidateReport, case: Case) -> str:
    """Why a candidate that came through is not the pick, in one line; '' for those that have a reason of their own."""
    if candidate.reason or candidate is case.pick:
        return candidate.reason
    if candidate.fits is False and candidate.memory is not None:
        return f"needs up to {bytes_text(candidate.memory.high_bytes)} of {bytes_text(case.device.limit_bytes)}"
    if point_of(candidate, case.quality) is None:
        return ""
    return compare(candidate, case.pick, case.quality)


def _memory_difference(one: CandidateReport, other: CandidateReport) -> str:
    a, b = one.memory.peak_bytes, other.memory.peak_bytes
    if abs(a - b) < 0.01 * b:
        return "needs the same memory"
    return f"needs {bytes_text(abs(a - b))} {'more' if a > b else 'less'}"


def _time_difference(one: CandidateReport, other: CandidateReport) -> str:
    a, b = one.planned_run_s, other.planned_run_s
    if a is None or b is None or abs(a - b) < max(1.0, 0.05 * b):
        return ""
    return f"takes {duration_text(abs(a - b))} {'longer' if a > b else 'less'}"


def _gain_over_lora(case: Case) -> str:
    lora = case.lora
    tuned = "" if case.pick.status == "from table" else "tuned "
    if case.pick.name == LORA:
        others = len(case.rivals) > 1
        why = "nothing else that was tried pays for a change" if others else "no other method has been tried"
        return f"This is LoRA{' with a tuned learning rate' if tuned else ''}; {why}."
    if lora is None:
        entry = next((c for c in case.candidates if c.name == LORA), None)
        why = f": {entry.status}{', ' + entry.reason if entry.reason else ''}" if entry else ""
        return f"The gain over {tuned}LoRA is unknown, for LoRA has no valid result{why}."
    return f"Against {tuned}LoRA (rate {rate_text(lora.learning_rate)}): {compare(case.pick, lora, case.quality)}."


def _reasons(case: Case) -> list[str]:
    pick, quality = case.pick, case.quality
    reasons = [_gain_over_lora(case)]
    if case.ties:
        names = _listed([c.title for c in case.ties])
        # A tie may still be probably worse than the target, and was then not asked for its costs.
        why = _tie_breaker(case)
        some = 0 < len(case.as_good) < len(case.ties) and not why.startswith(LIKELY_BEST)
        among = f"of the {len(case.as_good) + 1} most likely to end best it is " if some else ""
        reasons.append(f"Tied in {case.metric} with {names}; {among}{why}.")
    best = max([*case.rivals], key=lambda c: value_of(c, quality))
    if best is not pick and beats(best, pick, quality):
        reasons.append(f"{_objective_words(case)}: {best.title} is {compare(best, pick, quality)}.")
    named = {c.name for c in (best, *case.ties)} | {LORA}
    # The other points of the frontier are told as alternatives.
    worse = [c for c in case.others_by_quality if c.name not in named and not c.on_frontier][:RIVALS_NAMED]
    reasons += [f"{c.title} is {compare(c, pick, quality)}." for c in worse]
    return reasons


def _tie_breaker(case: Case) -> str:
    """What decided: the expected value, and among those as good as each other the costs in their order."""
    pick, rivals = case.pick, case.as_good
    if not rivals:
        return _likely_best(case) or "taken as the best trade of quality and memory"
    nearest_peak = min(c.memory.peak_bytes for c in rivals)
    if all(case.scale.memory_step(pick) < case.scale.memory_step(c) for c in rivals):
        saved = bytes_text(nearest_peak - pick.memory.peak_bytes)
        return f"taken because it needs the least memory ({saved} less)"
    alike = [c for c in rivals if case.scale.memory_step(c) <= case.scale.memory_step(pick)]
    if alike and all(forgets_more(c, pick) for c in alike):
        theirs = ", ".join(f"{c.title} {c.forgetting:.2f}" for c in alike[:RIVALS_NAMED])
        return f"taken because it forgets least of the base model ({pick.forgetting:.2f} nats per token; {theirs})"
    times = [c.planned_run_s for c in rivals if c.planned_run_s is not None]
    if times and all(case.scale.time_step(pick) < case.scale.time_step(c) for c in rivals):
        return f"taken because it is the fastest of them ({duration_text(min(times) - pick.planned_run_s)} less)"
    if likely := _likely_best(case):
        return likely
    if case.objective == "accuracy":
        return "taken for its costs, time and deployment together"
    return "taken as the cheapest of them"


def _likely_best(case: Case) -> str | None:
    """That the pick will probably end best, and among whom; None where another that might be picked will. A forecast
    that is ahead counts for less than a race in which it was behind at equal steps."""
    ahead = [c for c in case.ties if value_of(c, case.quality) > value_of(case.pick, case.quality)]
    if any(c in case.contenders for c in ahead):
        return None
    return f"{LIKELY_BEST} of those that stayed in the race" if ahead else LIKELY_BEST


def _objective_words(case: Case) -> str:
    return {
        "accuracy": "Kept in spite of a better one that left the race",
        "balanced": "Some quality is given up for memory",
        "memory": "Some quality is given up, for the objective is memory",
        "speed": "Some quality is given up, for the objective is speed",
    }[case.objective]


def _alternatives(case: Case) -> list[str]:
    members = [c for c in case.candidates if c.on_frontier and c.name != case.pick.name]
    members.sort(key=lambda c: (c.memory.peak_bytes, c.name))
    return [f"{c.title} (rate {rate_text(c.learning_rate)}): {compare(c, case.pick, case.quality)}" for c in members]


def _confidence(case: Case) -> str:
    """High, less one step for each doubt: others cannot be told apart, the evidence does not reach, the probe was
    short. A published table alone gives low confidence: ranks move between tasks."""
    if case.pick.status != "finished":
        return "low"
    share = case.probed_share
    doubts = [bool(case.ties), case.prediction.extrapolated, share is not None and share < SHORT_PROBE]
    return ("high", "moderate", "low")[min(2, sum(doubts))]


def _warnings(case: Case) -> list[str]:
    pick, found = case.pick, []
    if pick.status == "from table":
        found.append("Nothing was probed: this is from the table of published runs, on other data.")
    if case.prediction.extrapolated:
        found.append("The prediction lies outside of what earlier runs cover: take its interval with care.")
    if _still_falling(case):
        found.append("Not converged within the budget: the loss still fell steeply when the probe ended.")
    edge = _rate_at_edge(case)
    if edge:
        found.append(edge)
    if forgetful := _forgetting_warning(case):
        found.append(forgetful)
    if pick.memory.high_bytes > NARROW_FIT * case.device.limit_bytes:
        found.append(_tight_memory(pick.memory.high_bytes, case.device.limit_bytes))
    if pick.micro_batches > 1:
        found.append(_parts_warning(pick.micro_batches))
    if case.data is not None and case.data.eval_rows < SMALL_HELD_OUT_ROWS:
        found.append(_held_out_warning(case.data.eval_rows, case.metric))
    if pick.curve.points:
        found.append("One seed per candidate: another seed moves results too.")
    return found


def _tight_memory(high_bytes: int, limit_bytes: int) -> str:
    if high_bytes <= limit_bytes:
        spare = bytes_text(limit_bytes - high_bytes)
        return f"Memory is tight: {spare} below the limit in the worst order of batches."
    return (
        f"Memory is tight: an unlucky order of batches reserves up to {bytes_text(high_bytes)}; PyTorch then empties "
        "its cache and goes on more slowly. PYTORCH_ALLOC_CONF=expandable_segments:True avoids that."
    )


def _parts_warning(parts: int) -> str:
    return (
        f"Its probe ran out of memory with whole batches and did each in {parts} parts: where this run is to be on the "
        f"same device, plan it with --batch-size {parts} times smaller and --gradient-accumulation as much larger."
    )


def _forgetting_warning(case: Case) -> str:
    """Where LoRA, or one that is as good, leaves clearly more of the base model intact."""
    others = [c for c in (*case.ties, case.lora) if c is not None and forgets_more(case.pick, c)]
    if not others:
        return ""
    least = min(others, key=lambda c: (c.forgetting, c.name))
    return (
        f"Forgets more of the base model than {least.title}: the loss on the base's own texts grew by "
        f"{case.pick.forgetting:.2f} nats per token, there by {least.forgetting:.2f}."
    )


def _held_out_warning(rows: int, metric: str) -> str:
    text = f"Only {rows} held-out rows"
    if is_percentage(metric):
        text += f": {metric} is known to about {100 * math.sqrt(0.25 / max(1, rows)):.0f} points"
    return text + "."


def _still_falling(case: Case) -> bool:
    points = [p for p in case.pick.curve.points if p.eval_loss is not None]
    if len(points) < 2 or (case.probed_share or 0.0) >= 1.0:
        return False
    half = min(points[:-1], key=lambda p: (abs(p.step - points[-1].step / 2), p.step))
    return half.eval_loss > 0 and 1 - points[-1].eval_loss / half.eval_loss > STEEP_FALL


def _rate_at_edge(case: Case) -> str:
    """The best rate being the lowest or highest tried means that the optimum may lie outside."""
    rates = sorted({c.learning_rate for c in case.candidates if c.name == case.pick.name and c.curve.points})
    if len(rates) < 2 or case.pick.learning_rate not in (rates[0], rates[-1]):
        return ""
    side = "highest" if case.pick.learning_rate == rates[-1] else "lowest"
    return f"Its best learning rate is the {side} that was tried: a {side.replace('est', 'er')} one may do better."


def _listed(names: Sequence[str], limit: int = 6) -> str:
    names = [*names[:limit], f"{len(names) - limit} more"] if len(names) > limit else list(names)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
