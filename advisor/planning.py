"""What the budget allows: what probing costs on this machine, who enters the race, and how far it goes."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from advisor.candidates import Candidate, nothing_left, report_without_probe
from advisor.forecast.held_out import EVAL_ROWS
from advisor.memory.planned_memory import adapter_bytes_of, with_memory
from advisor.recommendation import CandidateReport
from advisor.requirements.effects import parse_requirements, violations_of_size
from advisor.requirements.scope import Scope
from advisor.survey import Survey
from advisor.text import bytes_text, duration_text
from knowledge.errors import NothingFits
from knowledge.prior import NEUTRAL, MethodPrior
from probes.racing.journal import Journal
from probes.racing.plan import Entry, RacePlan, stop_step
from probes.racing.planner import plan_race
from probes.schema import Baseline

FEWEST_STEPS = 8  # of the first rung: before that a loss tells how large a learning rate is and little else
# A training step costs this many forward passes: forward, backward through the frozen base and the adapter
# (measured on SmolLM2-135M with LoRA: 2.3; full fine-tuning adds the gradients of all weights).
STEP_PER_FORWARD = 2.4
FULL_STEP_PER_FORWARD = 3.2
PROBE_OVERHEAD_S = 1.5  # taking the adapter on and off, checking the base, writing the checkpoint
# Between two words of a worker lie a step, an evaluation, loading the base, and what a method begins with: some
# decompose every weight. One that is silent for this much longer than what was measured of these is hung.
LEAST_SILENCE_S = 120.0
PATIENCE = 30
WORTH_A_WORD = 1.05  # times what the budget leaves: a plan spends all of it, and making the plan took a moment


@dataclass(frozen=True)
class Costs:
    """What probing costs on this machine, in seconds of one worker."""

    step_s: Mapping[str, float]  # candidate id -> one optimizer step
    evaluation_s: float  # one of the held-out rows, and one of the texts on which forgetting is measured
    load_s: float  # the base model
    end_s: float = 0.0  # all held-out rows at the end of the planned run, and of the untuned model once

    @property
    def silence_limit_s(self) -> float:
        """So long may a worker be silent: many times what it can have to do between two words of it."""
        return LEAST_SILENCE_S + PATIENCE * (max(self.step_s.values()) + self.evaluation_s + self.end_s + self.load_s)


def measure_costs(
    survey: Survey, baseline: Baseline, candidates: Sequence[Candidate], priors: Mapping[str, MethodPrior]
) -> Costs:
    """Seconds per step of each candidate, from the speed of the baseline's evaluation and the table's relative
    times. What is left of the budget once the race has run its plan is spent by measured times."""
    assert survey.data is not None
    run = survey.planned_run
    micro_batches = min(run.max_steps, 100) * run.gradient_accumulation_steps
    order = survey.data.batch_order(run.batch_size, micro_batches, run.seed)
    lengths = survey.data.train.lengths_tokens
    padded_tokens = sum(len(rows) * int(lengths[rows].max()) for rows in order) / len(order)
    forward_s = baseline.eval_s / baseline.eval_tokens * padded_tokens * run.gradient_accumulation_steps
    step_s = {}
    for candidate in candidates:
        prior = priors.get(candidate.method.name)
        beside_lora = prior.relative_time if prior else None
        if beside_lora is None and candidate.method.peft_type is None:
            passes = FULL_STEP_PER_FORWARD
        else:
            passes = STEP_PER_FORWARD * max(1.0, beside_lora or 1.0)
        step_s[candidate.id] = forward_s * passes
    all_rows = survey.data.profile.eval_rows
    end_s = 2 * baseline.eval_s * all_rows / EVAL_ROWS if all_rows > EVAL_ROWS else 0.0
    return Costs(step_s, baseline.eval_s + baseline.texts_s, baseline.load_s, end_s)


def plan_probes(
    survey: Survey,
    candidates: Sequence[Candidate],
    costs: Costs,
    priors: Mapping[str, MethodPrior],
    budget_s: float,
    workers: int,
) -> RacePlan:
    """Which candidates enter and how far the rungs go, so that the race ends within the budget."""
    usual = {c.method.name: c.method.default_learning_rate_for(survey.shape) for c in candidates}
    usual |= {p.method: p.own_learning_rate for p in priors.values() if p.own_learning_rate is not None}
    entries = [
        Entry(
            id=c.id,
            method=c.method.name,
            family=c.method.family,
            learning_rate=c.learning_rate,
            predicted_peak_bytes=c.memory.peak_bytes if c.memory else None,
            prior=priors[c.method.name].score if c.method.name in priors else NEUTRAL,
            title=c.method.title,
            # On narrow models the lowest rate was seldom the best (examples/study).
            spare=survey.shape.is_narrow
            and c.learning_rate == c.method.learning_rates_for(survey.shape)[0] != usual[c.method.name],
            usual=c.learning_rate == usual[c.method.name],
            reference_only=c.method.reference_only,
        )
        for c in candidates
    ]
    steps = survey.planned_run.max_steps
    run_s = {c.id: costs.step_s[c.id] * steps for c in candidates}
    overhead_s = PROBE_OVERHEAD_S + costs.evaluation_s
    plan = plan_race(
        entries,
        run_s,
        budget_s,
        workers,
        overhead_s,
        shortest_fraction=FEWEST_STEPS / steps,
        end_s=costs.end_s,
        midpoint_s=costs.evaluation_s,
        warmup_fraction=survey.planned_run.warmup_fraction,
    )
    return _at_different_steps(plan, steps)


def _at_different_steps(plan: RacePlan, max_steps: int) -> RacePlan:
    """The plan without rungs that end where the next one does: of a run of two steps none could be trained between."""
    ends = [stop_step(fraction, max_steps) for fraction in plan.fractions]
    last = [rung for rung, end in enumerate(ends) if end not in ends[rung + 1 :]]
    if len(last) == len(ends):
        return plan
    keep = tuple(plan.keep[rung] for rung in last[:-1])
    fractions = tuple(plan.fractions[rung] for rung in last)
    return replace(plan, fractions=fractions, keep=keep, reference_rungs=sum(r < plan.reference_rungs for r in last))


@dataclass(frozen=True)
class Lineup:
    """How the race goes, who enters it with what memory, and who fits neither the device nor what is required."""

    plan: RacePlan
    entering: list[Candidate]
    too_large: list[CandidateReport]
    probed_before_s: float = 0.0
    """Probing by earlier plans that the journal holds, which this plan's budget does not pay for."""

    def in_words(self, probed_s: float, left_s: float) -> list[str]:
        """The plan, and how long it takes: `probed_s` seconds of probing are in the journal, `left_s` in the budget."""
        done_s = probed_s - self.probed_before_s
        is_begun = f"in all, {duration_text(done_s)} of it done" if done_s > 0 else "from here"
        needs_more = self.plan.expected_s - done_s > WORTH_A_WORD * max(0.0, left_s)
        too_long = ", more than the budget leaves" if needs_more else ""
        return [*self.plan.lines(), f"about {duration_text(self.plan.expected_s)} of probing {is_begun}{too_long}"]


def line_up(
    survey: Survey,
    candidates: Sequence[Candidate],
    costs: Costs,
    priors: Mapping[str, MethodPrior],
    workers: int,
    deadline: float,
    journal: Journal,
    say: Callable[[str], None],
) -> Lineup:
    """The line-up that the journal keeps of this race, else one that fits the time until `deadline`, kept from now on.

    A plan follows from measured times, and those are never twice the same: a race that is resumed must not plan anew.
    """
    decided_for = _decided_for(survey, candidates)
    kept = journal.plans.get(decided_for)
    if kept is not None and (lineup := _kept_lineup(kept, survey, candidates, say)):
        say("going on by the plan that this race began with")
        return lineup

    def plan_for(waiting: Sequence[Candidate]) -> RacePlan:
        return plan_probes(survey, waiting, costs, priors, deadline - time.monotonic(), workers)

    lineup = replace(_line_up_anew(survey, candidates, plan_for, say), probed_before_s=journal.probing_s)
    plan = TypeAdapter(RacePlan).dump_python(lineup.plan, mode="json")
    journal.add_plan(
        decided_for,
        {
            "race": plan,
            "too_large": [report.name for report in lineup.too_large],
            "probed_before_s": lineup.probed_before_s,
        },
    )
    return lineup


def _decided_for(survey: Survey, candidates: Sequence[Candidate]) -> str:
    """What a plan depends on, beside what the journal is of and the speed of the machine."""
    asked = [survey.request.budget_minutes, survey.device.limit_bytes, [c.id for c in candidates]]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def _kept_lineup(
    kept: Mapping[str, Any], survey: Survey, candidates: Sequence[Candidate], say: Callable[[str], None]
) -> Lineup | None:
    """None where one of those that entered would not fit by now, for its memory is estimated otherwise or less is
    allowed, or one that was too large would: it was left out for a requirement that has been dropped."""
    plan = TypeAdapter(RacePlan).validate_python(kept["race"])
    by_id = {c.id: c for c in candidates}
    entering, dropped = _sized([by_id[entry.id] for entry in plan.entries], survey, say)
    back, too_large = _sized([c for c in candidates if c.method.name in kept["too_large"]], survey, say)
    return None if dropped or back else Lineup(plan, entering, too_large, kept.get("probed_before_s", 0.0))


def _line_up_anew(
    survey: Survey,
    candidates: Sequence[Candidate],
    plan_for: Callable[[Sequence[Candidate]], RacePlan],
    say: Callable[[str], None],
) -> Lineup:
    """Memory is estimated only for who would enter, a few seconds per method; what does not fit makes room for the next
    in line. Raises NothingFits where no candidate is left.
    """
    waiting, sized, too_large = list(candidates), {}, []
    while True:
        if not waiting:
            is_required = any(report.violates for report in too_large)
            raise NothingFits(nothing_left(too_large) if is_required else does_not_fit(too_large, survey))
        plan = plan_for(waiting)
        entering = {entry.id for entry in plan.entries}
        unsized = [c for c in waiting if c.id in entering and c.id not in sized]
        if not unsized:
            return Lineup(plan, [sized[entry.id] for entry in plan.entries], too_large)
        fitting, dropped = _sized(unsized, survey, say)
        sized.update({c.id: c for c in fitting})
        too_large += dropped
        lost = {report.name for report in dropped}
        waiting = [sized.get(c.id, c) for c in waiting if c.method.name not in lost]


def _sized(
    candidates: Sequence[Candidate], survey: Survey, say: Callable[[str], None]
) -> tuple[list[Candidate], list[CandidateReport]]:
    """The candidates with their memory, and a report of each method that does not fit the device, or whose adapter will
    be larger than what is required."""
    fitting, left_out = with_memory(candidates, survey, say)
    requirements = parse_requirements(survey.request.require, Scope.of(survey))
    small, too_large = [], {}
    for candidate in fitting:
        violations = violations_of_size(adapter_bytes_of(candidate), requirements)
        if violations:
            report = report_without_probe(
                candidate.method, survey, "excluded", "; ".join(violations.values()), memory=candidate.memory
            )
            too_large[report.name] = report.model_copy(update={"violates": tuple(violations)})
        else:
            small.append(candidate)
    return small, [*left_out, *too_large.values()]


def does_not_fit(too_large: Sequence[CandidateReport], survey: Survey) -> str:
    """The message for a device that is too small for everything, with what would help."""
    smallest = min(too_large, key=lambda report: report.memory.peak_bytes if report.memory else math.inf)
    need = bytes_text(smallest.memory.peak_bytes) if smallest.memory else "more"
    run, device = survey.planned_run, survey.device
    helps = {
        "a smaller --batch-size": run.batch_size > 1,
        "a smaller --max-length": True,
        "--gradient-checkpointing": not run.gradient_checkpointing,
        "--quantize nf4": run.quantization != "nf4",
    }
    changes = ", or ".join(change for change, is_open in helps.items() if is_open)
    return (
        f"Nothing fits {bytes_text(device.limit_bytes)} ({device.name}): the smallest candidate, {smallest.title}, "
        f"needs {need} with batches of {run.batch_size}. Try {changes}."
    )
