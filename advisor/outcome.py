"""What `recommend()` returns: the result as data, with what one wants to do with it next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.gather import JOURNAL_FILE
from advisor.recommendation import CandidateReport, Result
from advisor.training.training_arguments import in_parts, training_arguments
from knowledge.errors import AdvisorError, NothingFits, is_full
from knowledge.methods import get_method
from knowledge.places import at_home

if TYPE_CHECKING:
    import pandas
    import peft

NOTEBOOK_COLUMNS = 100


class NotSaved(AdvisorError):
    """The files of a recommendation could not be written; `recommendation` holds what is known."""

    def __init__(self, recommendation: Recommendation, folder: Path, error: OSError) -> None:
        place, why = error.filename or folder, error.strerror or error
        cure = "Make room" if is_full(error) else "Put that right"
        again = "repeat the command"
        if (folder / JOURNAL_FILE).exists():
            again += " with --resume, which goes on from the journal there"
        super().__init__(f"The files could not be written: {place}: {why}. {cure} and {again}.")
        self.recommendation = recommendation


class Recommendation:
    """A recommendation. `result` is all of it as data; a notebook shows it by itself."""

    def __init__(self, result: Result, folder: Path | None = None) -> None:
        self.result = result
        self.folder = folder
        """Where the files of the result lie, None where none were written."""

    @property
    def candidates(self) -> tuple[CandidateReport, ...]:
        """Every candidate of the race and every method left out of it, each with its reason."""
        return self.result.candidates

    @property
    def frontier(self) -> list[CandidateReport]:
        """The candidates that no other beats on quality and memory together, by rising memory."""
        members = [c for c in self.candidates if c.on_frontier]
        return sorted(members, key=lambda c: c.memory.peak_bytes if c.memory else 0)

    @property
    def pick(self) -> CandidateReport:
        """The recommended candidate; raises NothingFits where none could be recommended."""
        if self.result.pick is None:
            raise NothingFits("No candidate could be recommended; `candidates` says why for each.")
        return self.result.pick

    @property
    def peft_config(self) -> peft.PeftConfig | None:
        """Ready for peft.get_peft_model; None where what is recommended adds no adapter, as BitFit."""
        import peft

        config = self.pick.peft_config
        return peft.PeftConfig.from_peft_type(**config) if config else None

    @property
    def training_arguments(self) -> dict[str, Any]:
        """The planned run as keyword arguments of transformers.TrainingArguments (beside `output_dir`). A method that
        is more than its config has an optimizer of its own, or a preparation: `result.training` and train.py name it.
        """
        pick, plan = self.pick, self.result.training
        run = in_parts(self.result.planned_run, pick.micro_batches)
        if plan is not None:
            weight_decay = plan.weight_decay
        elif run.task == "text-to-image":  # that of the published runs
            weight_decay = run.weight_decay
        else:  # without data there is no plan, and the method is the same
            weight_decay = get_method(pick.name).weight_decay
        return training_arguments(run, pick.learning_rate, weight_decay)

    def choose(self, method: str, learning_rate: float | None = None) -> Recommendation:
        """The same with another candidate of the race as the pick, at its best rate unless one is given; nothing is
        written. Raises BadInput where nothing is known of it."""
        from advisor.choice import choose

        return Recommendation(choose(self.result, method, learning_rate))

    def to_dataframe(self) -> pandas.DataFrame:
        """One row per candidate, for sorting and plotting."""
        import pandas

        return pandas.DataFrame([_row(candidate) for candidate in self.candidates])

    def to_json(self) -> str:
        """The whole result as JSON; the schema is that of advisor.recommendation.Result."""
        return self.result.model_dump_json(indent=2)

    def save(self, folder: str | Path) -> list[Path]:
        """Writes adapter_config.json, train.py, recommendation.json and report.html; returns what was written."""
        from advisor.save import save

        self.folder = at_home(folder)
        self.result = save(self.result, self.folder)
        return [self.folder / name for name in self.result.files]

    def print_summary(self) -> None:
        """The summary for a person, on stdout."""
        from rich.console import Console

        from advisor.report.terminal import print_summary

        print_summary(self.result, Console(), self.folder)

    def __repr__(self) -> str:
        pick = self.result.pick
        return f"<Recommendation: {pick.title} at {pick.learning_rate:g}>" if pick else "<Recommendation: none>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """The whole report for a notebook, and the summary as text for IPython in a terminal."""
        from advisor.report.html import render_fragment

        return {"text/html": render_fragment(self.result), "text/plain": self._summary_text()}

    def _summary_text(self) -> str:
        from io import StringIO

        from rich.console import Console

        from advisor.report.terminal import print_summary

        text = StringIO()
        print_summary(self.result, Console(file=text, width=NOTEBOOK_COLUMNS), self.folder)
        return text.getvalue()


def _row(candidate: CandidateReport) -> dict[str, Any]:
    predicted, loss, memory = candidate.predicted, candidate.predicted_loss, candidate.memory
    return {
        "method": candidate.name,
        "learning_rate": candidate.learning_rate,
        "status": candidate.status,
        "metric": predicted.metric if predicted else None,
        "predicted": predicted.value if predicted else None,
        "predicted_low": predicted.low if predicted else None,
        "predicted_high": predicted.high if predicted else None,
        "predicted_loss": loss.value if loss else None,
        "peak_bytes": memory.peak_bytes if memory else None,
        "planned_run_s": candidate.planned_run_s,
        "trainable_parameters": candidate.trainable_parameters,
        "adapter_bytes": candidate.adapter_bytes,
        "forgetting": candidate.forgetting,
        "on_frontier": candidate.on_frontier,
        "reason": candidate.reason,
    }
