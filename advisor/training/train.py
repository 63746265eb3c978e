"""Runs the planned run of a recommendation to its end: the code of the probes, on all of the data.

The one place for training is probes/training.py. A final run is a probe that goes to the last step, in a worker of its
own: the same batches in the same order, the same initialisation, the same measuring of loss, metric and memory, so
what is reached can be held against what was predicted. Where the race has trained the beginning of the very run, it
goes on from there. The exported train.py does the same by itself.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from advisor.exporters.base import recommended
from advisor.files import move_aside, write_text
from advisor.forecast.explosion import ExplosionWatch
from advisor.gather import JOURNAL_FILE, schedule_of
from advisor.report.live_training import LiveTraining
from advisor.requirements.effects import unmet
from advisor.save import load
from advisor.text import clean, rate_text
from advisor.training.final_run import (
    STATE_FOLDER,
    FinalRun,
    being_trained,
    first_gpu,
    model_source,
    prepare_run,
    take_over_probe,
)
from advisor.training.model_card import model_card
from advisor.training.training_report import ADAPTER_FOLDER, REPORT_FILE, TrainingReport, compare, finished_report
from advisor.versions import library_versions
from knowledge.errors import AdvisorError, BadInput
from knowledge.schema import Curve
from probes import interrupts
from probes.baseline import TICK_S, await_baseline
from probes.executors.process import ProcessExecutor
from probes.racing.journal import Journal, is_in_use
from probes.schema import Baseline, ProbeOutcome


class TrainingFailed(AdvisorError):
    """The run did not come to its end; the message says why and what to do."""


def train(
    folder: Path, *, resume: bool = False, force: bool = False, live: LiveTraining | None = None
) -> TrainingReport:
    """Trains what `folder` recommends to the end of the planned run, and saves the adapter and what was reached.

    resume: go on with a run that was stopped; a finished one is only reported again. force: begin anew; what is in the
    way of the adapter is moved aside.

    Raises BadInput where there is nothing to train, something in the way or both are asked for, and TrainingFailed
    where the run ends early: diverged, out of memory, or its worker died.
    """
    if resume and force:
        raise BadInput("--resume goes on with a run that was stopped, --force begins anew: give one of them.")
    result = load(folder)
    facts = recommended(result)
    was_stopped = (folder / STATE_FOLDER / JOURNAL_FILE).exists()
    if resume and not was_stopped and (report := finished_report(folder, result)) is not None:
        return report
    _check_free(folder, resume, force)
    was_stopped = was_stopped and resume
    with live or LiveTraining() as shown:
        run = prepare_run(facts, folder, shown.message)
        if force:
            _give_up(run.state)
        with run.open_journal() as journal, ProcessExecutor(1, first_gpu()) as executor:
            run.save_data()
            executor.start(run.context)
            take_over_probe(run, journal, shown.message)
            if was_stopped and not run.has_checkpoint:
                shown.message("the run that was stopped left no checkpoint: it begins anew")
            shown.message("loading the model and measuring it untuned")
            baseline = await_baseline(executor)
            so_far = journal.curves.get(run.job.id, Curve())
            shown.begin(
                schedule_of(facts.result.planned_run), facts.pick.learning_rate, run.context.metric_name, so_far
            )
            # A run that was stopped may have been ahead of what is on record.
            due = tuple(step for step in run.job.eval_steps if step > so_far.last_step)
            executor.submit(run.job.model_copy(update={"eval_steps": due}))
            outcome = _watch(run, executor, journal, baseline, shown)
            report = _report(run, baseline, journal.curves[run.job.id], outcome)
    _finish(run, report)
    return report


def _check_free(folder: Path, resume: bool, force: bool) -> None:
    """Raises BadInput where something is in the way, which with `force` may be moved aside or given up."""
    adapter, state = folder / ADAPTER_FOLDER, folder / STATE_FOLDER
    if is_in_use(state / JOURNAL_FILE):
        raise being_trained(state)
    is_stopped = (state / JOURNAL_FILE).exists()
    if is_stopped and not (resume or force):
        raise BadInput(f"{state} holds a run that was stopped. Go on with it by --resume, or begin anew by --force.")
    # A run that was begun by --force has been allowed to move the earlier adapter aside.
    if adapter.is_dir() and any(adapter.iterdir()) and not force and not (resume and is_stopped):
        raise BadInput(f"{adapter} already holds files. Use --force to train anew: they are then moved aside.")


def _give_up(state: Path) -> None:
    """Removes what a run that was stopped left: only once a new one can begin, for it may hold hours of work."""
    if is_in_use(state / JOURNAL_FILE):
        raise being_trained(state)
    if (state / JOURNAL_FILE).exists():
        shutil.rmtree(state)


def _watch(
    run: FinalRun, executor: ProcessExecutor, journal: Journal, baseline: Baseline, shown: LiveTraining
) -> ProbeOutcome:
    """Follows the run to its end. Raises TrainingFailed where it ends early."""
    watch = ExplosionWatch(baseline.eval_loss)
    for event in _events(executor):
        if event.fatal:
            raise TrainingFailed(f"The worker cannot go on: {event.fatal}")
        if event.step:
            shown.step(*event.step)
            if reason := watch.exploded(event.step[1]):
                executor.cancel()
                raise _diverged(run, f"{reason}: stopped at step {event.step[0]}")
        elif event.point:
            journal.add_point(run.job.id, event.point, run.context.metric_name)
            shown.point(event.point)
        elif event.outcome:
            journal.add_outcome(event.outcome)
            if event.outcome.status == "finished":
                return event.outcome
            raise _failed(run, event.outcome)
    raise TrainingFailed("The worker ended without a word.")


def _events(executor: ProcessExecutor) -> Iterator:
    """Events until the run has ended."""
    while True:
        interrupts.check()
        for event in executor.events(timeout_s=TICK_S):
            yield event
            if event.outcome or event.fatal:
                return


def _failed(run: FinalRun, outcome: ProbeOutcome) -> TrainingFailed:
    if outcome.status == "diverged":
        return _diverged(run, outcome.reason)
    if outcome.status == "out of memory":
        return TrainingFailed(
            f"Out of memory: {outcome.reason}. Free the device (`advisor doctor` shows what is free) and go on with "
            "--resume, or ask `advisor recommend` again with a smaller --batch-size."
        )
    log = run.state / "worker-0.log"
    return TrainingFailed(f"The run failed: {outcome.reason}. Details: {log}. Go on with --resume.")


def _diverged(run: FinalRun, reason: str) -> TrainingFailed:
    pick = run.facts.pick
    probed = [c.learning_rate for c in run.facts.result.candidates if c.name == pick.name and c.curve.points]
    lower = [rate for rate in probed if rate < pick.learning_rate]
    advice = f" {pick.title} was also probed at {rate_text(max(lower))}." if lower else ""
    return TrainingFailed(
        f"The run has diverged: {reason}. It needs a lower learning rate than {rate_text(pick.learning_rate)}.{advice} "
        "A longer --budget of `advisor recommend` follows its candidates further."
    )


def _report(run: FinalRun, baseline: Baseline, curve: Curve, outcome: ProbeOutcome) -> TrainingReport:
    from probes.device import detect

    facts, device = run.facts, detect()
    end, untuned, rows = curve.points[-1], baseline, run.context.eval_rows
    end_on_all = outcome.all_rows.end if outcome.all_rows else None
    if end_on_all and facts.end_rows > rows:
        end, untuned, rows, end_on_all = end_on_all, outcome.all_rows.untuned, facts.end_rows, None
    return TrainingReport(
        advisor_version=version("peft-advisor"),
        versions=library_versions(),
        name=facts.pick.name,
        title=facts.pick.title,
        learning_rate=facts.pick.learning_rate,
        max_steps=facts.result.planned_run.max_steps,
        first_step=outcome.first_step,
        curve=curve,
        end=end,
        eval_rows=rows,
        end_on_all=end_on_all if rows < facts.plan.eval_rows else None,
        held_out_rows=facts.plan.eval_rows,
        baseline_loss=untuned.eval_loss,
        baseline_metric=untuned.metric,
        comparisons=compare(facts.pick, end, outcome, device.kind, run.context.metric_name),
        train_s=outcome.train_s,
        peak_bytes=outcome.peak_bytes,
        trainable_parameters=outcome.trainable_parameters,
        adapter_bytes=outcome.adapter_bytes,
        forgetting=outcome.forgetting,
        forgetting_noise=outcome.forgetting_noise,
        unmet=unmet(facts.result, outcome),
        reload_difference=outcome.reload_difference,
        device=clean(device.name),
        device_kind=device.kind,
        dtype=run.context.dtype,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        adapter=ADAPTER_FOLDER,
        benchmark=facts.result.benchmark,
    )


def _finish(run: FinalRun, report: TrainingReport) -> None:
    """Puts card and tokenizer beside the adapter, moves it to its place, writes the report and clears up."""
    from probes.source import load_tokenizer

    made, place = run.state / ADAPTER_FOLDER, run.folder / ADAPTER_FOLDER
    load_tokenizer(model_source(run.facts)).save_pretrained(made)
    (made / "README.md").write_text(model_card(run.facts.result, report), encoding="utf-8")
    if place.exists():
        _keep_earlier(place)
    made.rename(place)
    write_text(run.folder / REPORT_FILE, report.model_dump_json(indent=2) + "\n")
    shutil.rmtree(run.state, ignore_errors=True)


def _keep_earlier(adapter: Path) -> None:
    """Moves an adapter aside, and with it the report of what it reached."""
    kept, report = move_aside(adapter), adapter.parent / REPORT_FILE
    if report.is_file() and kept.is_dir():
        report.rename(kept / REPORT_FILE)
