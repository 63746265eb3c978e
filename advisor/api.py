"""`recommend()`: the path of the data from a request to files, one station after the other.

survey -> candidates -> memory -> race -> predictions -> decision -> files
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.candidates import Candidate, propose
from advisor.deciding.decision import decide
from advisor.disk import check_free_space, disk_errors_in_words
from advisor.files import gone_after
from advisor.forecast.own_task import suite_of_survey
from advisor.forecast.telling_metric import with_telling_metric
from advisor.gather import JOURNAL_FILE, gather, open_executor, open_journal
from advisor.given_rows import EVAL_FILE, as_file
from advisor.judge import judge, judge_from_table, not_tried, shortlist_from_table, would_be_probed
from advisor.memory.fitting import check_weights_fit, with_fitting_run
from advisor.memory.planned_memory import with_memory
from advisor.outcome import NotSaved, Recommendation
from advisor.planning import does_not_fit, line_up, measure_costs
from advisor.published import asks_for_images, published_answer
from advisor.recommendation import CandidateReport, RaceReport, Result
from advisor.report.live import LiveRace
from advisor.request import Request, make_request
from advisor.requirements.effects import without_violators
from advisor.requirements.scope import Scope
from advisor.result import make_result
from advisor.save import save
from advisor.survey import Survey, survey
from advisor.text import duration_text
from knowledge import table
from knowledge.errors import BadInput, NothingFits
from knowledge.places import at_home
from knowledge.prior import MethodPrior, method_priors
from probes.baseline import await_baseline
from probes.interrupts import finishing
from probes.racing.journal import check_free
from probes.racing.observer import Observer

Rows = str | Path | Iterable[Mapping[str, Any]]
FEWEST_TO_CHOOSE_FROM = 3  # without probes: below it more of the table's methods are looked at


def recommend(
    model: str | Path,
    data: Rows | None = None,
    *,
    eval_data: Rows | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    show_progress: bool = True,
    **options: Any,
) -> Recommendation:
    """Recommends a PEFT method with its settings and learning rate for a model and data.

    `data` is a file, a dataset of the hub, or rows: dicts, a pandas.DataFrame or a datasets.Dataset, which are written
    to `out`; `eval_data` the same, of rows to hold out in place of some of the data. `options` are the fields of
    advisor.request.Request: budget_minutes, vram, objective, require, methods, epochs ... Progress goes to stderr.
    Files are written to `out`; without it nothing is kept but the returned recommendation.

    Raises BadInput, NoModelAccess and NothingFits, all of them knowledge.errors.AdvisorError.
    """
    data, eval_data = as_file(data, out), as_file(eval_data, out, EVAL_FILE)
    request = make_request(model=model, data=data, eval_data=eval_data, **options)
    return run(request, out=out, resume=resume, dry_run=dry_run, show_progress=show_progress)


def run(
    request: Request,
    *,
    out: str | Path | None,
    resume: bool = False,
    dry_run: bool = False,
    show_progress: bool = True,
    command: str = "",
) -> Recommendation:
    """Like `recommend`, from a checked request; `command` is printed in reports so that they can be repeated."""
    started = time.monotonic()
    with ExitStack() as stack:
        observer = stack.enter_context(LiveRace(budget_s=request.budget_minutes * 60, quiet=not show_progress))
        out = at_home(out) if out else None  # else a folder of the name ~ is made
        keep = out if out and not dry_run else None
        if resume:
            _check_resume(out, observer.message)
        if keep:
            _check_folder(keep, request, resume)
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="advisor-")))
        check_free_space(folder)
        if asks_for_images(request):
            found = published_answer(request, observer.message)
            reports, race = found.reports, None
        else:
            race_folder = Path(out) if out and resume else folder
            call = _Call(request, folder, race_folder, observer, started, resume, dry_run, stack)
            found, reports, race = _survey_and_judge(call)
        judged, decision = decide(
            reports,
            found.device,
            request.objective,
            planned_run=found.planned_run,
            data=found.data.profile if found.data else None,
        )
        result = make_result(found, judged, race, decision, command)
        if keep:
            result = _saved(result, keep)
    return Recommendation(result, keep)


def _check_resume(out: str | Path | None, say: Callable[[str], None]) -> None:
    if out is None:
        raise BadInput("Resuming needs the folder of the race to go on with: give --out (from Python: out=).")
    if not (Path(out) / JOURNAL_FILE).exists():
        say(f"{out} holds no race to go on with: a new one begins")


def _check_folder(folder: Path, request: Request, resume: bool) -> None:
    """Before model and data are read, which may take minutes. Raises BadInput where what lies there is in the way."""
    journal = folder / JOURNAL_FILE
    if request.probe:
        check_free(journal, resume=resume)
    elif journal.exists():
        raise BadInput(
            f"{folder} holds a race, whose files an answer without probes would replace. Give another --out folder."
        )


@dataclass(frozen=True)
class _Call:
    """What `run` was asked, where it works, whom it tells, and what stays in force until it returns (`stack`).

    `race_folder` has the journal: of a dry run that of the race that would be gone on with."""

    request: Request
    folder: Path
    race_folder: Path
    observer: LiveRace
    started: float
    resume: bool
    dry_run: bool
    stack: ExitStack


def _survey_and_judge(call: _Call) -> tuple[Survey, list[CandidateReport], RaceReport | None]:
    """The survey, a report for every method of the catalogue, and one of the race where there was one."""
    request, observer = call.request, call.observer
    if request.probe and not call.dry_run:
        observer.message(f"this takes about {duration_text(request.budget_minutes * 60)}, the budget for probing")
    found = survey(request, observer.message, observer.data_read)
    check_weights_fit(found)
    found = with_fitting_run(found, observer.message)
    if found.data:
        observer.name_metric(found.data.profile.metric_name)
    candidates, left_out = propose(found)
    priors = method_priors(table.load(), found.planned_run.task, suite_of_survey(found))
    if request.probe:
        with disk_errors_in_words(call.folder), gone_after(NothingFits, call.folder):
            found, reports, too_large, race = _probe(call, found, candidates, priors)
    else:
        reports, too_large = _from_table(found, candidates, priors, observer)
        race = None
    return found, [*reports, *too_large, *left_out], race


def _saved(result: Result, folder: Path) -> Result:
    try:
        return save(result, folder)
    except OSError as error:
        raise NotSaved(Recommendation(result), folder, error) from error


def _from_table(
    found: Survey, candidates: list[Candidate], priors: dict[str, MethodPrior], observer: Observer
) -> tuple[list[CandidateReport], list[CandidateReport]]:
    """The answer without probes: reports of those that come into question, and of those that do not fit the device.

    Where the first do not fit, or do not meet what is required, the next ones of the table are looked at.
    """
    rest, reports, too_large = candidates, [], []
    while True:
        shortlist, waiting = shortlist_from_table(found, rest, priors)
        if candidates and not shortlist and rest is candidates:
            names = ", ".join(dict.fromkeys(candidate.method.title for candidate in candidates))
            raise NothingFits(f"No published run says how good these are: {names}. Leave out --no-probe to race them.")
        fitting, larger = with_memory(shortlist, found, observer.message)
        too_large += larger
        reports += without_violators(judge_from_table(found, fitting, priors), found.request.require, Scope.of(found))
        if not shortlist or sum(report.status == "from table" for report in reports) >= FEWEST_TO_CHOOSE_FROM:
            break
        looked_at = {candidate.method.name for candidate in shortlist}
        rest = [candidate for candidate in rest if candidate.method.name not in looked_at]
    if not reports:
        raise NothingFits(does_not_fit(too_large, found))
    return [*reports, *waiting], too_large


def _probe(
    call: _Call, found: Survey, candidates: list[Candidate], priors: dict[str, MethodPrior]
) -> tuple[Survey, list[CandidateReport], list[CandidateReport], RaceReport]:
    """Races the candidates inside the budget. Returns the survey, with the metric that the race is judged by, the
    reports of those that came into question, of those that do not fit the device, and of the race. Once it is over, the
    call's stack keeps Ctrl-C from undoing it."""
    folder, observer = call.folder, call.observer
    budget_s = call.request.budget_minutes * 60
    deadline = call.started + budget_s
    # The journal comes first: its lock keeps this race from touching the files of another one in the same folder.
    opened = open_journal(found, call.race_folder, resume=call.resume, dry_run=call.dry_run)
    with opened as journal, open_executor(found, folder) as place:
        executor = place.executor
        journal.goes_on_with(place.device)
        observer.message("loading the model and measuring it untuned")
        baseline = await_baseline(executor, observer.message, math.inf if call.dry_run else deadline + budget_s)
        costs = measure_costs(found, baseline, candidates, priors)
        lineup = line_up(found, candidates, costs, priors, executor.workers, deadline, journal, observer.message)
        plan = lineup.plan
        for line in lineup.in_words(journal.probing_s, deadline - time.monotonic()):
            observer.message(line)
        waiting = not_tried(found, candidates, plan.not_tried)
        race_report = RaceReport(
            budget_s=budget_s,
            duration_s=0.0,
            workers=executor.workers,
            plan=tuple(plan.lines()),
            expected_s=plan.expected_s,
            dry_run=call.dry_run,
            rungs=(),
            not_tried=tuple(report.title for report in waiting),
        )
        if call.dry_run:
            return found, [*would_be_probed(found, lineup.entering), *waiting], lineup.too_large, race_report
        check_free_space(folder, lineup.entering)
        earlier_s = journal.probing_s
        evidence, race = gather(found, lineup, executor, journal, observer, deadline, costs)
        call.stack.enter_context(finishing(observer.message))
    found, evidence, baseline = with_telling_metric(found, evidence, baseline, observer.message)
    reports = judge(found, lineup.entering, evidence, race, baseline, table.load(), place.device, place.speed_up_alone)
    reports = without_violators(reports, found.request.require, Scope.of(found))
    race_report = race_report.model_copy(
        update={
            "duration_s": time.monotonic() - call.started + earlier_s,
            "plan": tuple(race.plan.lines()),
            "rungs": tuple(evidence.rungs),
            "interrupted": evidence.interrupted,
            "ended_by": evidence.ended_by,
        }
    )
    return found, [*reports, *waiting], lineup.too_large, race_report
