"""What a report says of how its answer came about: the race, and what it takes to do it again."""

from __future__ import annotations

from advisor.forecast.held_out import EVAL_ROWS
from advisor.recommendation import Result
from advisor.text import bytes_text, clean, duration_text, plural
from probes.schema import FAILURES


def race_line(result: Result) -> str:
    """How the evidence was gathered, in one line."""
    race = result.race
    if race is None:
        bases = {c.memory.basis for c in result.candidates if c.memory}
        more = " and the dry run of memory" if "dry run" in bases else " of this model"
        own = "own runs of this task, " if any(c.rests_on_own_runs for c in result.candidates) else ""
        return f"Nothing was probed: from {own}published runs{more}."
    probed = {c.identity for c in result.candidates if c.curve.points or c.status in FAILURES}
    methods = {name for name, _ in probed}
    text = f"{plural(len(probed), 'candidate')} of {plural(len(methods), 'method')} probed in "
    text += f"{duration_text(race.duration_s)} ({plural(len(race.rungs), 'rung')}, {plural(race.workers, 'worker')})"
    return text + (", interrupted" if race.interrupted or race.ended_by else "")


def rung_lines(result: Result) -> list[str]:
    """The story of the race, one line a rung."""
    lines = []
    for number, rung in enumerate(result.race.rungs if result.race else (), 1):
        facts = dict(rung)
        steps, duration = facts.pop("steps", None), facts.pop("duration_s", None)
        words = [f"to step {clean(steps)}"] if steps is not None else []
        words += [f"{clean(value, 200)} {clean(name, 40).replace('_', ' ')}" for name, value in facts.items()]
        words += [duration_text(float(duration))] if isinstance(duration, int | float) else []
        lines.append(f"Rung {number}: {', '.join(words)}")
    return lines


def _looked_at(result: Result) -> str:
    """How many of the held-out rows were looked at, where that were not always all."""
    told = {p.rows for c in result.candidates for p in (c.predicted, c.predicted_loss) if p and p.rows}
    if not told or result.data.eval_rows <= EVAL_ROWS:
        return ""
    at_the_end = ", all at the end of the run" if max(told) > EVAL_ROWS else ""
    return f" (probes are evaluated on the first {EVAL_ROWS}{at_the_end})"


def facts_of_provenance(result: Result) -> list[tuple[str, str]]:
    """Command, versions, seed, device, data and planned run: what it takes to do it again."""
    versions = ", ".join(f"{clean(k)} {clean(v)}" for k, v in sorted(result.versions.items()))
    device = f"{clean(result.device.name)}, {bytes_text(result.device.total_bytes)}"
    if result.device.driver:
        device += f", driver {clean(result.device.driver)}"
    run, data = result.planned_run, result.data
    facts = [
        ("command", clean(result.command, 1000) or "from Python"),
        ("versions", f"peft-advisor {clean(result.advisor_version)}, {versions}"),
        ("device", device),
        ("seed", str(run.seed)),
    ]
    if data is not None:
        of = f" of the {data.eval_path_rows:,} in {clean(data.eval_path)}" if data.eval_path else ""
        text = f"{clean(data.path)}, {clean(data.format)}: {data.rows:,} rows, {data.train_rows:,} for training, "
        text += f"{data.eval_rows:,} held out{of}{_looked_at(result)}; "
        text += f"rows have {data.length_p50_tokens} tokens in the middle, "
        text += f"{data.length_p95_tokens} at the 95th percentile, {data.length_max_tokens} at most"
        facts.append(("data", text))
    text = f"{plural(run.max_steps, 'step')}, batch {run.batch_size} x {run.gradient_accumulation_steps}, "
    text += f"{run.scheduler} schedule with {100 * run.warmup_fraction:g} % warm-up, "
    text += f"{run.dtype}, quantization {run.quantization}, "
    return [*facts, ("planned run", text + f"at most {run.max_length_tokens} tokens")]
