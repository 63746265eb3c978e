"""All that the training of a recommendation is made of: data, context, job, and the state that it goes on from."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from advisor.candidates import candidate_id
from advisor.exporters.base import Recommended, model_location
from advisor.forecast.held_out import EVAL_ROWS
from advisor.forecast.own_task import suite_name
from advisor.forecast.telling_metric import judged_by
from advisor.gather import JOURNAL_FILE, context_of, fingerprint, probe_dtype, schedule_of
from advisor.recommendation import TrainingPlan
from advisor.training.training_report import ADAPTER_FOLDER
from knowledge.errors import BadInput
from knowledge.methods import get_method
from knowledge.schema import Curve, PlannedRun
from probes.device import asked_threads, free_host_bytes, idle_cores, training_devices
from probes.metrics import own_place, title
from probes.racing.journal import InUse, Journal, OtherRace
from probes.schema import DatasetProfile, ProbeContext, ProbeJob

if TYPE_CHECKING:
    from probes.data.dataset import PreparedData
    from probes.source import ModelSource

STATE_FOLDER = "training"
# Shares of the run after which held-out rows are evaluated: as dense at the beginning as the rungs of races, so that a
# finished run teaches what beginnings lead to.
EVAL_FRACTIONS = (0.025, 0.05, 0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 0.85, 1.0)
# As many rows are trained between two evaluations at least as are held out, times this: a training step costs two to
# three forward passes, so that evaluations take about a sixth of the time at most.
ROWS_BETWEEN = 2
# Bytes of memory for each character of text: a token has about four, and takes some forty bytes until it is packed.
MEMORY_PER_CHARACTER = 16


@dataclass(frozen=True)
class FinalRun:
    """One training, in the folder of its recommendation."""

    facts: Recommended
    folder: Path
    data: PreparedData
    context: ProbeContext
    job: ProbeJob

    @property
    def state(self) -> Path:
        """Where journal, checkpoint, data and log lie while it runs."""
        return self.folder / STATE_FOLDER

    @property
    def identity(self) -> str:
        """Names what its measurements depend on, beside method and learning rate."""
        result = self.facts.result
        return fingerprint(self.data, model_location(result), result.planned_run, result.request.get("metric"))

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to go on from: a few methods hold what cannot be stored (probes/checkpoint.py),
        and a power cut may leave a part of a file."""
        from probes import checkpoint

        return checkpoint.is_readable(self.state / self.job.id)

    @contextmanager
    def open_journal(self) -> Iterator[Journal]:
        """The journal of this run. Raises BadInput where another run lies there."""
        journal = Journal(self.state / JOURNAL_FILE, f"{self.identity} {self.job.id} {self.context.dtype}", resume=True)
        try:
            journal.__enter__()
        except InUse:
            raise being_trained(self.state) from None
        except BadInput:
            raise BadInput(
                f"{self.state} holds a part of another run: of another recommendation, of changed data, or made on "
                "another device. Begin anew by --force."
            ) from None
        try:
            yield journal
        finally:
            journal.__exit__()

    def save_data(self) -> None:
        """Writes the rows for the worker. Only to be called while the journal is open: its lock keeps this run from
        cutting files that the worker of another one has mapped into its memory."""
        self.data.save(self.state / "data")


def prepare_run(facts: Recommended, folder: Path, say: Callable[[str], None]) -> FinalRun:
    """Reads all of the data, as far as the run can see it, and writes nothing. Raises BadInput where it is not what was
    probed."""
    data, state = read_data(facts, say), folder / STATE_FOLDER
    return FinalRun(facts, folder, data, _context(facts, data, state), _job(facts, state))


def being_trained(state: Path) -> InUse:
    """What to raise where another process holds the journal in the folder `state`."""
    return InUse(f"Another training is writing to {state}. Wait for it to end.")


def read_data(facts: Recommended, say: Callable[[str], None]) -> PreparedData:
    """The rows of the run, split and tokenised as for the probes. Raises BadInput where the file has changed."""
    from probes.data.dataset import MAX_TRAIN_ROWS, prepare
    from probes.data.scan import MAX_SAMPLE_BYTES
    from probes.source import load_tokenizer

    plan, run = facts.plan, facts.result.planned_run
    seen_rows = run.max_steps * run.rows_per_step
    say(f"reading and tokenising {plan.data_path}")
    data = prepare(
        plan.data_path,
        load_tokenizer(model_source(facts)),
        task=run.task,
        max_length_tokens=run.max_length_tokens,
        format=plan.data_format,
        columns=plan.data_columns,
        eval_path=plan.eval_path or None,
        seed=run.seed,
        max_train_rows=max(MAX_TRAIN_ROWS, seen_rows),
        max_train_bytes=max(MAX_SAMPLE_BYTES, free_host_bytes() // MEMORY_PER_CHARACTER),
    )
    if len(data.train) < 0.99 * min(seen_rows, data.profile.train_rows):
        say(f"only {len(data.train):,} of {data.profile.train_rows:,} rows fit into memory: these are trained on")
    named = facts.result.benchmark  # '' in the results of older versions
    asked_for = facts.result.request.get("metric")
    is_same = suite_name(data, model_location(facts.result), run, asked_for) == named if named else True
    if not is_same or _traits(data.profile, data) != _traits(facts.result.data, plan):
        own = f", or so is the code of the metric {place}" if (place := own_place(asked_for)) else ""
        raise BadInput(
            f"{plan.data_path} is not the data of the recommendation any more, or the model is another one{own}. "
            "Run `advisor recommend` again on it."
        )
    if asked_for is not None:
        data = data.judged_by(title(asked_for))  # as it was raced, so that the race's probe of this run is known again
    return data


def _traits(profile: DatasetProfile | None, source: PreparedData | TrainingPlan) -> tuple:
    """By which data is known again, however much of it was tokenised."""
    assert profile is not None
    counts = profile.rows, profile.duplicate_rows, profile.eval_rows
    return (*counts, source.held_out_key, tuple(source.label_names))


def _context(facts: Recommended, data: PreparedData, state: Path) -> ProbeContext:
    run, device = facts.result.planned_run, training_devices()[0]
    return context_of(
        run,
        state,
        model_reference=model_location(facts.result),
        device=device,
        dtype=probe_dtype(device, run),
        eval_rows=min(EVAL_ROWS, len(data.eval)),  # the rows that the prediction is of
        metric_name=facts.plan.metric_name,
        own_metric=own_place(facts.result.request.get("metric")),
        threads=asked_threads() or idle_cores(),
        trust_remote_code=facts.result.trusts_model_code,
    )


def _job(facts: Recommended, state: Path) -> ProbeJob:
    run, pick = facts.result.planned_run, facts.pick
    method = get_method(pick.name)
    return ProbeJob(
        id=candidate_id(method, pick.learning_rate, pick.peft_config, run),
        method=method.name,
        learning_rate=pick.learning_rate,
        peft_config=pick.peft_config,
        schedule=schedule_of(run),
        stop_step=run.max_steps,
        eval_steps=eval_steps(run, min(EVAL_ROWS, facts.plan.eval_rows)),
        micro_batches=pick.micro_batches,  # where whole batches ran out of memory they would again
        save_to=str(state / ADAPTER_FOLDER),
    )


def eval_steps(run: PlannedRun, eval_rows: int) -> tuple[int, ...]:
    """The steps after which held-out rows are evaluated: not too near to each other, and always the last."""
    apart = max(1, round(ROWS_BETWEEN * eval_rows / run.rows_per_step))
    chosen: list[int] = []
    for share in EVAL_FRACTIONS[:-1]:
        step = round(share * run.max_steps)
        if step - (chosen[-1] if chosen else 0) >= apart and run.max_steps - step >= apart:
            chosen.append(step)
    return (*chosen, run.max_steps)


def take_over_probe(run: FinalRun, journal: Journal, say: Callable[[str], None]) -> None:
    """Goes on where the race's probe of this very run stopped: same data and device."""
    from probes import checkpoint

    result, id = run.facts.result, run.job.id
    probe, own = run.folder / id / checkpoint.FILE, run.state / id / checkpoint.FILE
    is_same_device = not result.device.planned and result.device.kind == run.context.device
    if run.has_checkpoint or not (checkpoint.is_readable(probe.parent) and is_same_device):
        return
    try:
        with Journal(run.folder / JOURNAL_FILE, run.identity, resume=True) as race:
            points = judged_by(run.context.metric_name, race.curves.get(id, Curve())).points
    except OtherRace:  # of other data, as where the race trained on a sample of the rows
        say("the race trained other rows, as of a large file it trains a sample: this begins at the first step")
        return
    for point in points:
        journal.add_point(id, point, run.context.metric_name)
    own.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(probe, own)
    if points and points[-1].step == result.planned_run.max_steps:
        say("the race has trained all of it: what is left is to measure and to save it")
    elif points:
        say(f"going on from step {points[-1].step}, where the race stopped training it")


def model_source(facts: Recommended) -> ModelSource:
    """The base model. Raises NoModelAccess where it cannot be reached any more."""
    from probes.source import resolve_model

    return resolve_model(model_location(facts.result), trust_remote_code=facts.result.trusts_model_code)


def first_gpu() -> list[str] | None:
    """What CUDA_VISIBLE_DEVICES is to say: one run takes one card."""
    gpus = training_devices()[1]
    return gpus[:1] if gpus else None
