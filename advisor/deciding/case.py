"""A decision with all that it was made of: what reasons, confidence and warnings are told from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from advisor.deciding.costs import Scale, Step
from advisor.deciding.frontier import is_eligible
from advisor.deciding.quality import QualityField, as_good_as, beats, tied, value_of
from advisor.deciding.rates import lora_to_beat
from advisor.recommendation import CandidateReport, Prediction
from advisor.request import Objective
from knowledge.prior import REFERENCE
from knowledge.schema import PlannedRun
from probes.schema import DatasetProfile, DeviceReport


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
    steps: Sequence[Step] = ()
    """How the pick was chosen among those as good as the target: what each cost took out."""

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
        """Plain LoRA, at the rate that every pick is compared with."""
        longest = next((c for c in self.rivals if c.name == REFERENCE), None)
        return longest and lora_to_beat(longest, self.candidates, self.quality)

    def rates_tried(self, method: str) -> list[float]:
        """The learning rates of a method that a race has compared, ascending: where one diverged is known of it too."""
        tried = (c for c in self.candidates if c.name == method and (c.curve.points or c.status == "diverged"))
        return sorted({c.learning_rate for c in tried})

    @property
    def others_by_quality(self) -> list[CandidateReport]:
        """Each other method at the rate that the pick is compared with."""
        others = [c for c in self.rivals if c.name != self.pick.name]  # not another rate of it, in one that was chosen
        others = [self.lora if c.name == REFERENCE else c for c in others]
        return sorted(others, key=lambda c: (-value_of(c, self.quality), c.name))

    @property
    def ties(self) -> list[CandidateReport]:
        """Best first; those that left the race, of which little was seen, come last."""
        found = [c for c in self.others_by_quality if tied(self.pick, c, self.quality)]
        return sorted(found, key=lambda c: c.status == "eliminated")

    @property
    def as_good(self) -> list[CandidateReport]:
        """Of the ties that might have been picked those that are expected to end where what is asked for does."""
        as_good = as_good_as(self.target, self.contenders, self.quality)
        return [c for c in self.ties if c in as_good]

    @property
    def left_ahead(self) -> list[CandidateReport]:
        """Those that could not be picked, for they were behind at equal steps, and are yet foretold to end ahead of the
        pick by more than noise; the likeliest first."""
        left = [c for c in self.candidates if c.status == "eliminated" and c not in self.contenders]
        ahead = [c for c in left if is_eligible(c, self.quality) and beats(c, self.pick, self.quality)]
        return sorted(ahead, key=lambda c: (-value_of(c, self.quality), c.name, c.learning_rate))

    @property
    def probed_share(self) -> float | None:
        """How far into the planned run the pick was probed, from 0 to 1; None where that is unknown."""
        if self.planned_run is None or not self.pick.curve.points:
            return None
        return self.pick.curve.last_step / self.planned_run.max_steps
