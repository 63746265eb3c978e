"""What a race is going to do: which candidates enter, how far each rung goes, and how many go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from knowledge.prior import REFERENCE

# Short probes favour learning rates that are too high: after a warm-up of 3 %, by .19 in log10 at 5 % of the run, by
# .03 at 10 and not at 20. Races at a tenth of the sweep's cost end .018 nats above the best where rates are settled at
# 10 %, .032 at 20 and .038 at 5 (examples/study/warmup_races.py, means over right and wrong usual rates).
RATES_SETTLED = 0.1
WARMUPS_UNTIL_SETTLED = 2  # after a warm-up of a tenth a fifth of the run is right for it (examples/study, point 13)


@dataclass(frozen=True)
class Entry:
    """A candidate as the race sees it. Entries of one `method` differ in their learning rate only."""

    id: str
    method: str
    family: str
    learning_rate: float
    predicted_peak_bytes: int | None
    prior: float
    title: str = ""
    """The method's name for people, where it differs."""
    spare: bool = False
    """A learning rate of the method that seldom is its best: it enters where the budget is large."""
    usual: bool = True
    """The learning rate to take where the budget is too small to compare any, or one of several such."""
    reference_only: bool = False
    """The method is measured for comparison and will not be recommended: it takes nobody's place."""


@dataclass(frozen=True)
class RacePlan:
    """Who enters, and how the race goes. `keep[i]` methods go on after rung i; there is one less than rungs. Each goes
    on at its best learning rate, and with `two_rates` before `rates_settled` of the run at the next lower one too.

    The reference method's best candidate takes part in the first `reference_rungs` rungs in addition, however it
    does, since every recommendation is compared with it. `fractions` are shares of the planned run.
    """

    entries: tuple[Entry, ...]
    fractions: tuple[float, ...]
    keep: tuple[int, ...]
    not_tried: Mapping[str, str] = field(default_factory=dict)
    reference: str = REFERENCE
    reference_rungs: int = 0
    two_rates: bool = True
    rates_to_the_end: bool = False
    """Whether two rates of each method go on after that too: a high one that leads there may stand still."""
    warmup_fraction: float = 0.0
    rates_left_out: bool = False
    """Whether methods enter at their usual learning rates alone, for want of time."""
    came_back: int = 0
    """How many of those that had left came to the end too, for time was left."""
    expected_s: float = 0.0
    budget_s: float = 0.0

    def lines(self) -> list[str]:
        """The plan in words, one line per rung."""
        reference = next((e.title or e.method for e in self.entries if e.method == self.reference), None)
        methods = len(self.methods)
        of_methods = "1 method" if methods == 1 else f"{methods} methods"
        if self.rates_left_out:
            of_methods += ", at the usual learning rate: no time to compare rates"
        candidates = "1 candidate" if len(self.entries) == 1 else f"{len(self.entries)} candidates"
        lines = [f"{candidates} ({of_methods}) to {_per_cent(self.fractions[0])} of the run"]
        for rung, (count, fraction) in enumerate(zip(self.keep, self.fractions[1:], strict=True)):
            stays = reference and rung + 1 < self.reference_rungs and count < methods
            also = f" and, in any case, {reference}" if stays else ""
            rates = ", each also at its next lower learning rate" if self.keeps_two_rates(rung) else ""
            lines.append(f"the best {count}{also}{rates}{',' if also or rates else ''} to {_per_cent(fraction)}")
        if self.came_back:
            lines.append(f"{self.came_back} of those that had left to the end too")
        return lines

    def until(self, rungs: int) -> RacePlan:
        """The first rungs of it, at least one."""
        return replace(self, fractions=self.fractions[:rungs], keep=self.keep[: rungs - 1])

    def keeps_two_rates(self, rung: int) -> bool:
        """Whether methods leave this rung with two learning rates, as far as they have them."""
        are_open = self.rates_to_the_end or self.fractions[rung] < self.rates_settled - 1e-9
        return self.two_rates and self.has_rates and are_open

    @property
    def rates_settled(self) -> float:
        """From which share of the run on the losses at a method's learning rates tell which is best."""
        return max(RATES_SETTLED, WARMUPS_UNTIL_SETTLED * self.warmup_fraction)

    @property
    def methods(self) -> set[str]:
        return {entry.method for entry in self.entries}

    @property
    def has_rates(self) -> bool:
        """Whether a method is in it with several learning rates."""
        return len(self.entries) > len(self.methods)

    @property
    def compares_rates(self) -> bool:
        """Whether methods keep two rates until these can be told apart, and the race goes on from there."""
        return self.has_rates and self.two_rates and self.fractions[-1] > self.rates_settled + 1e-9


def stop_step(fraction: float, max_steps: int) -> int:
    """At which step of the planned run a rung to a share of it ends: at the last one for all of it alone, for what is
    measured there takes time of its own (`Pace.end_s`)."""
    last = max_steps if fraction >= 1 else max_steps - 1
    return max(1, min(last, round(fraction * max_steps)))


def _per_cent(fraction: float) -> str:
    """Of a long run, a rung of a few steps is not "0.0 %"."""
    return f"{100 * fraction:.1f} %" if fraction >= 0.01 else f"{100 * fraction:.2g} %"
