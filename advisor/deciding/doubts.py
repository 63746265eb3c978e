"""What speaks against a pick: how sure it is, and what its user should know before a long run."""

from __future__ import annotations

from typing import get_args

from advisor.deciding.case import Case
from advisor.deciding.costs import KEPT_GAIN
from advisor.deciding.data_doubts import blindness, data_doubts
from advisor.deciding.forgetting import forgets_more
from advisor.deciding.quality import QualityField, baseline_of, value_of
from advisor.forecast.overtraining import overtrained
from advisor.recommendation import CandidateReport
from advisor.text import bytes_text, plural, quality_text, rate_text, rounded
from knowledge.methods import all_methods
from knowledge.schema import MemoryEstimate, PlannedRun
from probes.schema import DeviceReport

HANDFUL_OF_ROWS = 10  # the rows that any other draw would have held out differ too much from these
SHORT_PROBE = 0.1  # of the run: shorter probes favour who moves fastest (examples/study)
STEEP_FALL = 0.05  # share of the loss that still went away in the second half of a probe
NARROW_FIT = 0.95  # share of the limit above which an unlucky batch may end in an out-of-memory error


def confidence(case: Case) -> str:
    """High, less one step for each doubt: one that left the race is foretold to end ahead, others cannot be told apart
    or were not reached, the evidence does not reach, the probe was short, it was judged by a handful of rows. A
    published table alone gives low confidence, for ranks move between tasks; so does a pick that is no gain over the
    untuned model.
    """
    if case.pick.status != "finished" or _no_gain(case):
        return "low"
    share = case.probed_share
    untried = any(c.status == "not tried" and c.name != case.pick.name for c in case.candidates)
    doubts = [
        bool(case.left_ahead) and case.objective not in KEPT_GAIN,  # else quality is given up anyway
        bool(case.ties) or (len(case.rivals) == 1 and untried),
        case.prediction.extrapolated or _rate_stays(case),
        share is not None and share < SHORT_PROBE,
        case.data is not None and case.data.eval_rows < HANDFUL_OF_ROWS,
    ]
    return ("high", "moderate", "low")[min(2, sum(doubts))]


def warnings(case: Case) -> list[str]:
    pick, found = case.pick, []
    if worse := _no_gain(case):
        found.append(worse)
    if pick.status == "from table":
        own = "your own runs of this task, and from " if pick.rests_on_own_runs else ""
        found.append(f"Nothing was probed: this is from {own}the table of published runs, on other data.")
        if case.data is None and case.planned_run is not None and case.planned_run.task != "text-to-image":
            found.append(_assumed_warning(case.planned_run))
    if pick.status == "finished" and pick.rests_on_own_runs:
        found.append("It has been trained to the end on this task before: what is told of its end was measured then.")
    if pick.status == "eliminated":
        found.append(
            f"It was behind, and left the race after {plural(pick.curve.last_step, 'step')}: its forecast is a guess."
        )
    if case.prediction.extrapolated and pick.status != "from table":
        found.append(
            "No finished run of a task like this is known: it may well end outside of its interval. A longer --budget "
            "tells more."
        )
    if fall := _last_fall(case):
        found.append(fall)
    if case.planned_run and (rise := overtrained(pick.curve, case.planned_run.max_steps)):
        found.append(
            f"{'It learns its rows by heart' if _rows_come_again(case) else 'It goes on for too long'}: {rise}."
        )
    if _rate_stays(case):
        found.append(
            "With a constant learning rate the end is less foreseeable: about half of such runs ended inside their "
            "intervals, nine of ten with --scheduler cosine or linear."
        )
    if early := _left_while_warming_up(case):
        found.append(early)
    if rate := _rate_at_edge(case) or _only_rate(case):
        found.append(rate)
    if forgetful := _forgetting_warning(case):
        found.append(forgetful)
    if case.device.taken:
        found.append(f"When this was measured, of {case.device.name}: {case.device.taken}.")
    if tight := _tight_memory(pick.memory, case.device):
        found.append(tight)
    if pick.micro_batches > 1:
        found.append(_parts_warning(pick.micro_batches))
    if case.data is not None:
        found += data_doubts(case, case.data)
    if not worse and (blind := blindness(case)):
        found.append(blind)
    if pick.curve.points:
        found.append("One seed per candidate: another seed moves results too.")
    return found


def _rate_stays(case: Case) -> bool:
    """Whether the end is foretold of a run whose rate does not fall. Where losses end is learned from runs whose rates
    did, and of 26 that did not 14 ended inside the 80 % intervals told after a fifth, of the same with a cosine 23
    (`python -m tests.benchmarks.schedules`)."""
    foretold = 0 < (case.probed_share or 0.0) < 1
    return foretold and case.planned_run is not None and case.planned_run.scheduler == "constant"


def _left_while_warming_up(case: Case) -> str:
    """In the middle of a long warm-up losses tell little of the end (examples/study, points 8 and 12)."""
    if case.planned_run is None:
        return ""
    warmup_steps = case.planned_run.warmup_steps
    left = [c for c in case.candidates if c.status == "eliminated" and 0 < c.curve.last_step < warmup_steps]
    if not left:
        return ""
    return (
        f"{plural(len(left), 'candidate')} left the race within the warm-up of {warmup_steps} steps, where losses tell "
        "little of the end: a shorter one (--warmup) or a longer --budget tells more."
    )


def _rows_come_again(case: Case) -> bool:
    """Whether the planned run passes over the data more than once, as far as that is known."""
    run, data = case.planned_run, case.data
    if run.epochs is not None or data is None:
        return run.epochs is None or run.epochs > 1
    return run.max_steps * run.rows_per_step > data.train_rows


def _tight_memory(memory: MemoryEstimate, device: DeviceReport) -> str:
    """Where an unlucky order of batches may not fit. Of a processor a dry run says nothing."""
    if memory.high_bytes <= NARROW_FIT * device.limit_bytes:
        return ""
    if memory.basis in ("measured", "published"):
        return f"Memory is tight: such a run held {bytes_text(memory.peak_bytes)} of {bytes_text(device.limit_bytes)}."
    if device.kind == "cpu":
        return ""
    if memory.surely_fits(device.limit_bytes):
        spare = bytes_text(device.limit_bytes - memory.high_bytes)
        return f"Memory is tight: {spare} below the limit in the worst order of batches."
    reserved = f"Memory is tight: an unlucky order of batches reserves up to {bytes_text(memory.high_bytes)}"
    if device.kind != "cuda":
        return f"{reserved}."
    return (
        f"{reserved}; PyTorch then empties its cache and goes on more slowly. "
        "PYTORCH_ALLOC_CONF=expandable_segments:True avoids that."
    )


def _parts_warning(parts: int) -> str:
    return (
        f"Its probe ran out of memory with whole batches and did each in {parts} parts, as `advisor train`, "
        "train.py and the configs for trainers do."
    )


def _forgetting_warning(case: Case) -> str:
    """Where LoRA, or one that is as good, leaves clearly more of the base model intact."""
    others = [c for c in (*case.ties, case.lora) if c is not None and forgets_more(case.pick, c)]
    if not others:
        return ""
    least = min(others, key=lambda c: (c.forgetting, c.name))
    name = f"{least.title} at rate {rate_text(least.learning_rate)}" if least.name == case.pick.name else least.title
    return (
        f"Forgets more of the base model than {name}: the loss on the base's own texts grew by "
        f"{case.pick.forgetting:.2f} nats per token, there by {rounded(least.forgetting, 2):.2f}."
    )


def _assumed_warning(run: PlannedRun) -> str:
    steps = plural(run.max_steps, "step")
    return (
        f"Without data the run is assumed: {steps} of rows of {run.max_length_tokens:,} tokens. "
        "--max-length and --max-steps, or data, say otherwise."
    )


def _no_gain(case: Case) -> str:
    """Where even the pick is expected to end below the untuned model: in what decides, in the task's metric, or in its
    loss where the metric gains nothing."""
    gains = {field: gain for field in get_args(QualityField) if (gain := _gain(case.pick, field)) is not None}
    fields: list[QualityField] = [case.quality, "predicted"]
    if gains.get("predicted", 0.0) <= 0:
        fields.append("predicted_loss")
    for field in fields:
        if gains.get(field, 0.0) < 0:
            metric = getattr(case.pick, field).metric
            as_measured = case.pick.baseline_value if field == "predicted" else case.pick.baseline_loss
            untuned = quality_text(as_measured, metric)
            return f"It is expected to end worse than the untuned model, whose {metric} is {untuned}."
    return ""


def _gain(pick: CandidateReport, field: QualityField) -> float | None:
    """How far the pick is expected to end above the untuned model; None where one of the two is not known."""
    start = baseline_of(pick, field)
    return None if start is None else value_of(pick, field) - start


def _last_fall(case: Case) -> str:
    """What the loss still lost in the second half of the probe, where that is much and the run was to go on."""
    points = [p for p in case.pick.curve.points if p.eval_loss is not None]
    if len(points) < 2 or (case.probed_share or 0.0) >= 1.0:
        return ""
    last = points[-1]
    half = min(points[:-1], key=lambda p: (abs(p.step - last.step / 2), p.step))
    if half.eval_loss <= 0 or 1 - last.eval_loss / half.eval_loss <= STEEP_FALL:
        return ""
    return (
        f"Not converged within the budget: from step {half.step} to {last.step} its loss fell by "
        f"{100 * (1 - last.eval_loss / half.eval_loss):.0f} %."
    )


def _only_rate(case: Case) -> str:
    """Short races compare no learning rates (probes/racing/planner.py)."""
    if len(case.rates_tried(case.pick.name)) != 1 or case.pick.name not in all_methods():
        return ""
    return "Its learning rate was compared with no other: a longer --budget compares rates."


def _rate_at_edge(case: Case) -> str:
    """The best rate being the lowest or highest tried means that the optimum may lie outside."""
    if case.pick not in case.rivals:  # a choice of the user: another rate of the method is its best
        return ""
    rates = case.rates_tried(case.pick.name)
    if len(rates) < 2 or case.pick.learning_rate not in (rates[0], rates[-1]):
        return ""
    side = "highest" if case.pick.learning_rate == rates[-1] else "lowest"
    return f"Its best learning rate is the {side} that was tried: a {side.replace('est', 'er')} one may do better."
